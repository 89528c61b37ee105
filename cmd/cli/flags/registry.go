package flags

import (
	"github.com/spf13/pflag"

	"layered.build/builder/cmd/engine"
)

// Registry says how registries are reached.
type Registry struct{ insecure, mirrors []string }

// Register defines the flags.
func (r *Registry) Register(fs *pflag.FlagSet) {
	SliceVar(fs, &r.insecure, "insecure-registry", "", "registry that may be reached by http or without a valid certificate")
	SliceVar(fs, &r.mirrors, "registry-mirror", "", "mirror, REGISTRY=URL (docker.io=http://127.0.0.1:5000)")
}

// Access is how registries are reached.
func (r *Registry) Access() engine.Access {
	return engine.Access{Mirrors: r.mirrors, Insecure: r.insecure}
}
