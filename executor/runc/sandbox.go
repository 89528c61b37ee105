package runc

import (
	"context"
	"errors"

	"layered.build/builder/executor/sandbox"
)

// Init takes over if this process was started to become a container's first
// process; then it does not return. Otherwise it returns at once.
func Init() {}

// Options configure a Sandbox. Only StateDir is required.
type Options struct {
	// StateDir is a directory for what must be on disk while a process runs; it
	// holds nothing between runs. Several processes may share it.
	StateDir string
	// Resolv is the resolv.conf of this machine; "" is /etc/resolv.conf.
	Resolv string
}

// Sandbox runs processes in libcontainer containers. It is safe for concurrent
// use.
type Sandbox struct{ opts Options }

var _ sandbox.Sandbox = (*Sandbox)(nil)

// New returns a sandbox and checks that this machine can run containers.
func New(opts Options) (*Sandbox, error) {
	return &Sandbox{opts: opts}, nil
}

// Run implements sandbox.Sandbox.
func (s *Sandbox) Run(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
	return sandbox.Exit{}, errors.New("runc: not implemented")
}

// Reclaim removes what killed processes left behind: cgroups and state
// directories.
func (s *Sandbox) Reclaim(ctx context.Context) error { return nil }

// Close ends background work.
func (s *Sandbox) Close() error { return nil }
