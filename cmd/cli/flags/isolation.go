package flags

import (
	"github.com/spf13/pflag"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/parser/mistake"
)

const (
	isolationFlag = "isolation"
	usernsFlag    = "userns"
)

// RegisterIsolation adds --isolation and --userns. Their values are read before the command
// runs: see Isolation and Userns.
func RegisterIsolation(fs *pflag.FlagSet) {
	fs.String(isolationFlag, "", "how RUN is kept from this machine: auto, root, subuid, single or chroot ($BUILDER_ISOLATION; builder doctor tells what works)")
	fs.String(usernsFlag, "", "user namespace of RUN for root: auto (its ids are nobody's on this machine, where that works) or host (the default) ($BUILDER_USERNS)")
}

// Isolation reads --isolation, of commands that have it, or $BUILDER_ISOLATION.
func Isolation(fs *pflag.FlagSet, getenv func(string) string) (rootless.Isolation, error) {
	name, value := given(fs, isolationFlag, "BUILDER_ISOLATION", getenv)
	want, err := rootless.ParseIsolation(value)
	if err != nil {
		return "", mistake.New("%s: %w", name, err)
	}
	return want, nil
}

// Userns reads --userns or $BUILDER_USERNS: whether RUN gets a user namespace of its own
// where that works.
func Userns(fs *pflag.FlagSet, getenv func(string) string) (bool, error) {
	switch name, value := given(fs, usernsFlag, "BUILDER_USERNS", getenv); value {
	case "auto":
		return true, nil
	case "", "host":
		return false, nil
	default:
		return false, mistake.New("%s %q: want auto or host", name, value)
	}
}

// given is a flag's value and what it is called, or that of a variable.
func given(fs *pflag.FlagSet, flag, variable string, getenv func(string) string) (name, value string) {
	if f := fs.Lookup(flag); f != nil && f.Changed {
		return "--" + flag, f.Value.String()
	}
	return variable, getenv(variable)
}
