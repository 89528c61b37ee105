package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"time"

	"layered.build/builder/cmd/containers/runs"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// Request is a process that is to be started.
type Request struct {
	// Name of the run; "" is made up.
	Name string
	// Ref is the image as the user named it, Image is what that is. Its layers are
	// attached (engine.Engine.Attach).
	Ref   string
	Image *registry.Image
	// Config is the image's configuration with what the user changed.
	Config registry.ImageConfig
	// Spec is what the user asks of the sandbox: limits, mounts, network, host name,
	// terminal, variables that count more than the image's and are not recorded. What the
	// image says is filled in.
	Spec sandbox.Spec
}

// Container is a process that is about to run, or has ended.
type Container struct {
	// Notes say what of the limits cannot be kept as it is asked for.
	Notes []string

	e       *engine.Engine
	run     *runs.Run
	active  *snapshot.Active
	sandbox engine.Sandbox
	spec    sandbox.Spec
	kept    bool
}

// Create prepares a process, and makes its record. The caller closes the container.
func Create(ctx context.Context, e *engine.Engine, req Request) (_ *Container, err error) {
	if lack := e.Host().Rung().Lack; lack != nil {
		return nil, lack
	}
	rec := &runs.Record{
		Name: req.Name, Image: req.Ref, ImageID: req.Image.ID.String(), Base: req.Image.Stack, V1: req.Image.V1, Config: req.Config,
		Command: append(append([]string(nil), req.Config.Config.Entrypoint...), req.Config.Config.Cmd...),
	}
	if len(rec.Command) == 0 {
		return nil, mistake.New("the image %s has no command", req.Ref).WithHint("give one: builder run %s COMMAND", req.Ref)
	}
	c := &Container{e: e, spec: req.Spec}
	if c.sandbox, err = e.OpenSandbox(ctx, dag.Limits{}); err != nil {
		return nil, err
	}
	c.Notes = engine.Notes(c.sandbox, c.spec.Limits, c.spec.Ulimits, c.spec.ShmSize > 0)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.run, err = e.Runs().New(rec); err != nil {
		return nil, err
	}
	if c.active, err = e.Store.Prepare(ctx, rec.Base); err != nil {
		return nil, err
	}
	return c, c.fill(ctx)
}

// Record is what is known of the process. It must not be changed.
func (c *Container) Record() *runs.Record { return c.run.Record }

// fill completes the specification with what the image says.
func (c *Container) fill(ctx context.Context) error {
	rec, spec := c.run.Record, &c.spec
	tree, err := c.e.Store.Tree(ctx, rec.Base)
	if err != nil {
		return err
	}
	user, home, err := sandbox.ResolveUser(tree, rec.Config.Config.User)
	if err != nil {
		return mistake.New("%w", err)
	}
	spec.ID = "run-" + rec.ShortID()
	spec.Root = c.active.Mount()
	spec.Args, spec.Cwd, spec.User = rec.Command, rec.Config.Config.WorkingDir, user
	if spec.Hostname == "" {
		spec.Hostname = rec.ShortID()
	}
	env := append([]string(nil), rec.Config.Config.Env...)
	for _, e := range spec.Env {
		name, _, _ := strings.Cut(e, "=")
		env = append(slices.DeleteFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") }), e)
	}
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

// Streams are what a process is attached to.
type Streams struct {
	In       io.Reader // nil: nothing to read
	Out, Err io.Writer
	// Resize delivers sizes of the terminal (columns, rows); nil: it keeps its size.
	Resize <-chan [2]uint16
	// Signals are handed on to the process (sandbox.Spec); nil: none.
	Signals <-chan syscall.Signal
}

// Start runs the process to its end. What takes longer than its limit is killed; the
// error is an *executor.TimeoutError then.
func (c *Container) Start(ctx context.Context, s Streams) (sandbox.Exit, error) {
	c.spec.Stdin, c.spec.Stdout, c.spec.Stderr, c.spec.Resize = s.In, s.Out, s.Err, s.Resize
	c.spec.Signals, c.spec.Complaint = s.Signals, "ERROR: "
	if d := c.spec.Limits.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &executor.TimeoutError{After: d, What: "the process"})
		defer cancel()
	}
	return c.sandbox.Run(ctx, &c.spec)
}

// Keep makes a layer of what the process changed, and completes the record.
func (c *Container) Keep(ctx context.Context, exit sandbox.Exit) error {
	layer, err := c.active.Commit(ctx, snapshot.CommitOptions{})
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	rec := c.run.Record
	rec.Stack = append(append(snapshot.Stack(nil), rec.Base...), layer)
	rec.Finished, rec.ExitCode = &now, exit.Code
	if err := c.run.Save(); err != nil {
		return fmt.Errorf("run %s: %w", rec.Name, err)
	}
	c.kept = true
	return nil
}

// Close gives up what was not kept: the files, and the record.
func (c *Container) Close() error {
	var errs []error
	if c.active != nil {
		errs = append(errs, c.active.Discard())
	}
	if c.run != nil {
		if !c.kept {
			errs = append(errs, c.run.Remove())
		}
		errs = append(errs, c.run.Release())
	}
	return errors.Join(errs...)
}
