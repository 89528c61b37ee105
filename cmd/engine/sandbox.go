package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"layered.build/builder/executor/chroot"
	"layered.build/builder/executor/local"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// Sandbox is a sandbox that cleans up.
type Sandbox interface {
	sandbox.Sandbox
	// Reclaim removes what killed processes left.
	Reclaim(context.Context) error
	// LimitNotes says which limits cannot be kept as they are asked for.
	LimitNotes(l dag.Limits, ulimits []dag.Ulimit) []string
	Close() error
}

// OpenSandbox prepares running processes, which all together stay within a limit, and
// removes what killed processes left. The sandbox is closed with the engine. It is called
// at most once.
func (e *Engine) OpenSandbox(ctx context.Context, total dag.Limits) (Sandbox, error) {
	dir := e.path("sandbox")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare the sandbox: %w", err)
	}
	var err error
	if e.host.opts.Rung.Isolation == rootless.Chroot {
		e.sandbox, err = newChroot(dir, total)
	} else {
		e.sandbox, err = newRunc(runc.Options{StateDir: dir, Total: total, UserNamespaces: e.host.opts.Rung.OwnUsers, Store: e.Root()})
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the sandbox: %w", err)
	}
	e.reclaim(ctx)
	return e.sandbox, nil
}

func newRunc(o runc.Options) (Sandbox, error) {
	s, err := runc.New(o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func newChroot(dir string, total dag.Limits) (Sandbox, error) {
	s, err := chroot.New(chroot.Options{StateDir: dir, Total: total})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Notes say which limits, and sizes of file systems in memory if some are asked for,
// cannot be kept as they are asked for.
func Notes(s Sandbox, l dag.Limits, ulimits []dag.Ulimit, sizes bool) []string {
	notes := s.LimitNotes(l, ulimits)
	if n, ok := s.(interface{ SizeNote() string }); ok && sizes {
		notes = append(notes, n.SizeNote())
	}
	return notes
}

// reclaim removes what killed processes left. What cannot be removed is told and
// does not stop the work: the next start tries again.
func (e *Engine) reclaim(ctx context.Context) {
	left, err := e.Store.Abandoned()
	errs := []error{err, sandbox.KillUsers(left)}
	local.Reclaim(e.Store)
	errs = append(errs, e.Store.Reclaim(ctx), e.sandbox.Reclaim(ctx))
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		e.host.opts.Warn(fmt.Sprintf("remove what a killed process left: %v", err))
	}
}
