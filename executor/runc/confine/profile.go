package confine

import (
	"fmt"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
)

// defaultSeccomp is moby's default profile for the default capabilities, as a
// program.
func defaultSeccomp() ([]byte, error) { return seccompFor(&sandbox.Spec{}) }

// seccompFor is the profile of a process, moby's default one unless it has its own,
// for what the process may do.
func seccompFor(spec *sandbox.Spec) ([]byte, error) {
	rs := &specs.Spec{Process: &specs.Process{Capabilities: Capabilities(spec)}}
	var p *specs.LinuxSeccomp
	var err error
	if spec.SeccompProfile != nil {
		p, err = seccomp.LoadProfile(string(spec.SeccompProfile), rs)
	} else {
		p, err = seccomp.GetDefaultProfile(rs)
	}
	if err != nil {
		return nil, fmt.Errorf("load seccomp profile: %w", err)
	}
	return compileSeccomp(p)
}

// CheckSeccomp reports whether a profile in Docker's form can be used.
func CheckSeccomp(profile []byte) error {
	_, err := seccompFor(&sandbox.Spec{SeccompProfile: profile})
	return err
}
