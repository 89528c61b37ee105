package flags

import (
	"github.com/spf13/pflag"

	"layered.build/builder/cmd/engine"
)

// Registry says how registries are reached.
type Registry struct {
	insecure, mirrors []string
	certDir           string
	verify            bool
	fs                *pflag.FlagSet
}

// verifyFlag says of all registries whether they are to be trusted.
const verifyFlag = "tls-verify"

// Register defines the flags.
func (r *Registry) Register(fs *pflag.FlagSet) {
	r.RegisterTrust(fs)
	SliceVar(fs, &r.mirrors, "registry-mirror", "", "mirror, REGISTRY=URL (docker.io=http://127.0.0.1:5000)")
}

// RegisterTrust defines the flags that concern the registries themselves, and no mirrors.
func (r *Registry) RegisterTrust(fs *pflag.FlagSet) {
	r.fs = fs
	SliceVar(fs, &r.insecure, "insecure-registry", "", "registry that may be reached by http or without a valid certificate")
	fs.StringVar(&r.certDir, "cert-dir", "", "folder with certificates for registries: *.crt of authorities, *.cert and *.key of this client")
	fs.BoolVar(&r.verify, verifyFlag, true, "false: all registries may be reached by http or without a valid certificate; true: none")
}

// Access is how registries are reached.
func (r *Registry) Access() engine.Access {
	a := engine.Access{Mirrors: r.mirrors, Insecure: r.insecure, CertDir: r.certDir}
	if r.fs.Changed(verifyFlag) {
		a.Verify = &r.verify
	}
	return a
}
