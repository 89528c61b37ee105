package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/containers"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/task"
	"layered.build/builder/executor"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// runName is the command whose errors have docker's exit code.
const runName = "run"

func (a *app) runCommand() *cobra.Command {
	f := &flags.Run{}
	cmd := &cobra.Command{
		Use:   runName + " [OPTIONS] IMAGE|STEP [COMMAND] [ARG...]",
		Short: "Start a process on an image or on any step's result",
		Long: `Start a process in a container on an image, or on what any step of a build left
(by the id that "builder history" shows).

What the process changed is kept after it has ended, as docker does: "builder
ps -a" lists such runs, "builder commit" makes an image of one, "builder rm"
removes it. With --rm nothing is kept.`,
		Example: "  builder run --rm -it debian:trixie\n  builder run --name try app sh -c 'echo hi > /greeting'\n  builder commit -c 'CMD [\"cat\", \"/greeting\"]' try app:hi",
		Args:    minArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(cmd.Context(), f, args)
		},
	}
	f.Register(cmd.Flags())
	for _, name := range []string{"detach", "publish", "privileged", "cap-add", "cap-drop", "device", "mount", "link", "restart", "security-opt"} {
		refuse(cmd, name)
	}
	return cmd
}

// refuse makes a flag of docker run an error that names it.
func refuse(cmd *cobra.Command, name string) {
	short := map[string]string{"detach": "d", "publish": "p"}[name]
	cmd.Flags().StringP(name, short, "", "")
	flag := cmd.Flags().Lookup(name)
	flag.Hidden = true
	if name == "detach" || name == "privileged" {
		flag.NoOptDefVal = "true"
	}
	prev := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if flag.Changed {
			return mistake.Unsupported("--"+name, "see builder run --help for what is")
		}
		if prev == nil {
			return nil
		}
		return prev(cmd, args)
	}
}

// asRunError gives errors of `builder run` docker's exit code; signals keep
// theirs.
func asRunError(err error) error {
	var exit *exitError
	var sig signalError
	if err == nil || errors.As(err, &exit) || errors.As(err, &sig) {
		return err
	}
	return &exitError{code: ExitRun, err: err}
}

func (a *app) run(ctx context.Context, f *flags.Run, args []string) error {
	if f.Remove && f.Keep {
		return mistake.New("--rm and --keep cannot be combined")
	}
	f.Platform.Default(os.Getenv)
	chosen, err := f.Platform.Parse()
	if err != nil {
		return err
	}
	spec, err := f.Spec()
	if err != nil {
		return err
	}
	if spec.Env, err = f.Unset(a.proxies()); err != nil {
		return err
	}
	return a.withEngine(ctx, f.Registry.Access(), func(e *engine.Engine) error {
		img, err := a.imageToRun(ctx, e, args[0], f)
		if err == nil {
			err = runnable(img)
		}
		if err != nil {
			return err
		}
		a.warnPlatform(img, chosen)
		req := containers.Request{Name: f.Name, Ref: args[0], Image: img, Config: img.Config, Spec: spec}
		if err := f.Apply(&req.Config.Config, args[1:]); err != nil {
			return err
		}
		return a.start(ctx, e, f, req)
	})
}

// imageToRun finds an image or a step in the store, or pulls the image: as --pull says.
func (a *app) imageToRun(ctx context.Context, e *engine.Engine, ref string, f *flags.Run) (*registry.Image, error) {
	when, err := f.Pull()
	if err != nil {
		return nil, err
	}
	local := func() (*registry.Image, error) {
		img, err := find(e, &f.Platform, ref)
		if err == nil {
			err = e.Attach(img)
		}
		return img, err
	}
	if when == build.PullMissing || when == build.PullNever {
		if img, err := local(); when == build.PullNever || !errors.Is(err, registry.ErrNotFound) {
			return img, err
		}
	}
	img, err := a.pullToRun(ctx, e, ref, f)
	if when == build.PullNewer && errors.Is(err, registry.ErrUnreachable) {
		if img, lerr := local(); lerr == nil {
			return img, nil
		}
	}
	return img, err
}

func (a *app) pullToRun(ctx context.Context, e *engine.Engine, ref string, f *flags.Run) (*registry.Image, error) {
	name, err := registry.ParseReference(ref)
	if err != nil {
		return nil, mistake.New("%w", err)
	}
	platform := binfmt.Local()
	if chosen, err := f.Platform.Parse(); err != nil {
		return nil, err
	} else if chosen != nil {
		platform = *chosen
	}
	var img *registry.Image
	err = a.shown(ctx, false, "Pulling", name.String(), func(ctx context.Context, _ *task.Task) (err error) {
		img, err = e.Client.Pull(ctx, name.String(), platform)
		return err
	})
	return img, err
}

// start runs the process, and keeps what it changed.
func (a *app) start(ctx context.Context, e *engine.Engine, f *flags.Run, req containers.Request) (err error) {
	c, err := containers.Create(ctx, e, req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for _, n := range c.Notes {
		fmt.Fprintln(a.std.Err, "WARN:", n)
	}
	exit, err := a.attach(ctx, f, c)
	if err != nil {
		return err
	}
	if !f.Remove {
		if err := c.Keep(ctx, exit); err != nil {
			return err
		}
		if !f.Keep && isTerminal(a.std.Err) {
			fmt.Fprintf(a.std.Err, "kept as %s (builder commit, builder rm)\n", c.Record().Name)
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

// attach connects the process with the program's streams and signals and runs it.
func (a *app) attach(ctx context.Context, f *flags.Run, c *containers.Container) (exit sandbox.Exit, err error) {
	s := containers.Streams{Out: a.std.Out, Err: a.std.Err}
	if f.Interactive {
		s.In = a.std.In
	}
	err = a.signals.relayed(func(ch <-chan syscall.Signal) (err error) {
		s.Signals = ch
		exit, err = a.connect(ctx, f, c, s)
		return err
	})
	var late *executor.TimeoutError
	if errors.As(err, &late) {
		return exit, &exitError{code: 128 + int(unix.SIGKILL), err: err}
	}
	return exit, err
}

// connect runs the process with streams, and a terminal if it is to have one.
func (a *app) connect(ctx context.Context, f *flags.Run, c *containers.Container, s containers.Streams) (sandbox.Exit, error) {
	switch {
	case !f.TTY:
		return c.Start(ctx, s)
	case !f.Interactive:
		s.In = strings.NewReader("")
		return c.Start(ctx, s)
	}
	return withTerminal(a.std.In, func(sizes <-chan [2]uint16) (sandbox.Exit, error) {
		s.Resize = sizes
		return c.Start(ctx, s)
	})
}
