//go:build !cgo || !seccomp

package confine

import (
	"errors"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// compileSeccomp refuses: a sandbox without a filter is none.
func compileSeccomp(*specs.LinuxSeccomp) ([]byte, error) {
	return nil, errors.New("this program was built without seccomp (build tag \"seccomp\", libseccomp-dev)")
}
