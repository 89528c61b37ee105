package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// start runs the process, and keeps what it changed.
func (a *app) start(ctx context.Context, e *engine, f *runFlags, spec *sandbox.Spec, rec *runRecord) (err error) {
	if a.stepsLack != nil {
		return a.stepsLack
	}
	if err := e.openSandbox(dag.Limits{}); err != nil {
		return err
	}
	for _, n := range slices.Concat(e.sandbox.LimitNotes(spec.Limits, spec.Ulimits), e.sizeNotes(spec.ShmSize > 0)) {
		fmt.Fprintln(a.std.Err, "WARN:", n)
	}
	e.reclaim(ctx, a.std.Err)
	r, err := e.newRun(rec)
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		if !kept {
			err = errors.Join(err, r.remove())
		}
		err = errors.Join(err, r.release())
	}()
	active, err := e.store.Prepare(ctx, rec.Base)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, active.Discard()) }()
	if err := fillSpec(ctx, e, spec, active, rec); err != nil {
		return err
	}
	exit, err := a.attach(ctx, e, f, spec)
	if err != nil {
		return err
	}
	if !f.remove {
		if kept, err = a.keep(ctx, f, r, active, exit); err != nil {
			return err
		}
	}
	if exit.OOM {
		fmt.Fprintln(a.std.Err, "WARN: a process of the container was killed: the memory limit was reached")
	}
	if exit.Code != 0 {
		return &exitError{code: exit.Code}
	}
	return nil
}

// keep turns the changes into a layer and completes the record.
func (a *app) keep(ctx context.Context, f *runFlags, r *run, active *snapshot.Active, exit sandbox.Exit) (bool, error) {
	layer, err := active.Commit(ctx, snapshot.CommitOptions{})
	if err != nil {
		return false, err
	}
	now := time.Now().UTC()
	r.record.Stack = append(append(snapshot.Stack(nil), r.record.Base...), layer)
	r.record.Finished, r.record.ExitCode = &now, exit.Code
	if err := r.save(); err != nil {
		return false, err
	}
	if !f.keep && isTerminal(a.std.Err) {
		fmt.Fprintf(a.std.Err, "kept as %s (builder commit, builder rm)\n", r.record.Name)
	}
	return true, nil
}

// fillSpec completes the specification with what the image says.
func fillSpec(ctx context.Context, e *engine, spec *sandbox.Spec, active *snapshot.Active, rec *runRecord) error {
	tree, err := e.store.Tree(ctx, rec.Base)
	if err != nil {
		return err
	}
	user, home, err := sandbox.ResolveUser(tree, rec.Config.Config.User)
	if err != nil {
		return mistake.New("%w", err)
	}
	spec.ID = "run-" + rec.ID[:12]
	spec.Root = active.Mount()
	spec.Args, spec.Cwd, spec.User = rec.Command, rec.Config.Config.WorkingDir, user
	if spec.Hostname == "" {
		spec.Hostname = rec.ID[:12]
	}
	env := append([]string(nil), rec.Config.Config.Env...)
	env = addDefault(env, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	env = addDefault(env, "HOME", home)
	env = addDefault(env, "HOSTNAME", spec.Hostname)
	if spec.TTY {
		env = addDefault(env, "TERM", "xterm")
	}
	spec.Env = env
	return nil
}

func addDefault(env []string, name, value string) []string {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return env
		}
	}
	return append(env, name+"="+value)
}

// attach connects the process with the program's streams and runs it.
func (a *app) attach(ctx context.Context, e *engine, f *runFlags, spec *sandbox.Spec) (sandbox.Exit, error) {
	if f.interactive {
		spec.Stdin = a.std.In
	}
	spec.Stdout, spec.Stderr = a.std.Out, a.std.Err
	if d := spec.Limits.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &exitError{
			code: 128 + int(unix.SIGKILL), err: &executor.TimeoutError{After: d, What: "the process"},
		})
		defer cancel()
	}
	if !f.tty {
		return e.sandbox.Run(ctx, spec)
	}
	if !f.interactive {
		spec.Stdin = strings.NewReader("")
	}
	return withTerminal(a.std, spec, func() (sandbox.Exit, error) { return e.sandbox.Run(ctx, spec) })
}
