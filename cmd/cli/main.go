package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"layered.build/builder/cmd/cli/caches"
	"layered.build/builder/cmd/cli/store"
	"layered.build/builder/cmd/cli/why"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot/folder"
)

// Streams are the program's standard streams.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Program is what main knows of itself.
type Program struct {
	Streams
	// Version is what the linker was told; "" means what the Go tool recorded.
	Version string
}

// Main runs the program with its arguments (without the program's name) and
// returns its exit code. A panic is reported as a bug.
func Main(ctx context.Context, args []string, std Program) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(std.Err, "ERROR: internal error: %v\nThis is a bug in builder; please report it with the command that you ran.\n", r)
			if os.Getenv("BUILDER_DEBUG") != "" {
				fmt.Fprintf(std.Err, "%s\n", debug.Stack())
			} else {
				fmt.Fprintln(std.Err, "hint: BUILDER_DEBUG=1 shows where it happened")
			}
			code = ExitBug
		}
	}()
	ctx, sig := watchSignals(ctx)
	defer sig.stop()
	root := newRoot(std, sig, args)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w", cause)
		}
	}
	err = withoutCwd(err)
	if cmd.Name() == runName && cmd.Parent() == root {
		err = asRunError(err)
	}
	report(std.Err, err)
	return exitCode(err)
}

// app is what the commands share.
type app struct {
	std     Streams
	version string
	root    string // --root
	rung    engine.Rung
	told    sync.Map // the warnings that have been told
	signals *signals
}

// storeRoot is the folder of the store.
func (a *app) storeRoot() (string, error) {
	if a.root != "" {
		return filepath.Abs(a.root)
	}
	dir, err := engine.DefaultRoot(os.Getenv)
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// host is what this process works with; warnings go to warn.
func (a *app) host(processes int, warn io.Writer) (*engine.Host, error) {
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	return engine.NewHost(engine.Options{
		Root: root, Rung: a.rung, Processes: processes, Version: a.version, Getenv: os.Getenv,
		Warn: func(text string) { a.warn(warn, text) },
	})
}

// warn tells a warning, once. It may be called from several goroutines.
func (a *app) warn(w io.Writer, text string) {
	if _, told := a.told.LoadOrStore(text, true); !told {
		fmt.Fprintf(w, "WARN: %s\n", text)
	}
}

// withEngine runs fn on the store.
func (a *app) withEngine(ctx context.Context, access engine.Access, fn func(*engine.Engine) error) error {
	h, err := a.host(0, a.std.Err)
	if err != nil {
		return err
	}
	e, err := h.Open(ctx, access)
	if err != nil {
		return err
	}
	return errors.Join(fn(e), e.Close(ctx))
}

// withStore is withEngine on a store that is there: none is made.
func (a *app) withStore(ctx context.Context, access engine.Access, fn func(*engine.Engine) error) error {
	root, err := a.storeRoot()
	if err != nil {
		return err
	}
	if err := folder.Find(root); errors.Is(err, folder.ErrNotStore) {
		return mistake.New("%w", err).WithHint("name the folder of a store with --root or $BUILDER_ROOT; a build makes one")
	} else if err != nil {
		return fmt.Errorf("find the store: %w", err)
	}
	return a.withEngine(ctx, access, fn)
}

// newRoot makes the program's commands: all of them, or for a build only that one,
// since the flags of all take a while.
func newRoot(std Program, sig *signals, args []string) *cobra.Command {
	a := &app{std: std.Streams, version: std.Version, signals: sig}
	if a.version == "" {
		a.version = recordedVersion()
	}
	root := &cobra.Command{
		Use:           "builder",
		Short:         "Build container images from Dockerfiles, without a daemon",
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       a.version,
		Args:          unknownCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			return cmd.Help()
		},
	}
	root.PersistentPreRunE = a.enter
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("builder {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return flagError(cmd, err)
	})
	root.PersistentFlags().StringVar(&a.root, "root", "", "folder of the store (default $BUILDER_ROOT, /var/lib/builder or $XDG_DATA_HOME/builder)")
	if len(args) > 1 && args[0] == "build" {
		root.AddCommand(a.buildCommand())
		leaveOutFlags(root.Commands())
		return root
	}
	root.AddCommand(
		a.buildCommand(), a.planCommand(),
		a.runCommand(), a.psCommand(), a.rmCommand(), a.commitCommand(),
		a.imagesCommand(), a.imageCommand(slices.Contains(args, "image")), a.historyCommand(), a.inspectCommand(), a.tagCommand(), a.rmiCommand(),
		a.pullCommand(), a.pushCommand(), a.copyCommand(),
		a.saveCommand(), a.loadCommand(), a.importCommand(), a.exportCommand(),
		a.loginCommand(), a.logoutCommand(),
		a.duCommand(), a.pruneCommand(), store.Command(store.Program{
			In: std.In, Out: std.Out, Root: a.storeRoot, WithEngine: a.withEngine, WithStore: a.withStore, Write: a.disk().File, IsTerminal: isTerminal,
			Confirm: a.confirm, Wrong: &exitError{code: ExitBuild},
		}), a.doctorCommand(),
		why.Command(why.Program{Out: std.Out, WithStore: a.withStore}),
		caches.Command(caches.Program{In: std.In, Out: std.Out, Err: std.Err, Failed: &exitError{code: ExitBuild}, Getenv: os.Getenv, WithEngine: a.withEngine, Outside: outside()}),
		a.versionCommand(), exitCodesTopic(),
	)
	leaveOutFlags(root.Commands())
	return root
}

// leaveOutFlags keeps cobra from adding [flags] to usage lines, which say OPTIONS.
func leaveOutFlags(cmds []*cobra.Command) {
	for _, cmd := range cmds {
		cmd.DisableFlagsInUseLine = true
		leaveOutFlags(cmd.Commands())
	}
}

// helpCommand is cobra's, and refuses what there is no help for.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil {
				return mistake.New("%w", err)
			}
			if len(rest) > 0 {
				return unknownCommand(about, rest)
			}
			return about.Help()
		},
	}
}

// unknownCommand refuses arguments of the bare program.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := mistake.New("unknown command %q", args[0])
	var known []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			known = append(known, c.Name())
		}
	}
	if near, ok := mistake.Nearest(args[0], known); ok {
		return err.WithHint("did you mean %s?", near)
	}
	return err.WithHint("%s --help lists the commands", cmd.CommandPath())
}

// exactArgs wants n arguments, which what describes.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return mistake.New("%s needs %s, got %d arguments", cmd.CommandPath(), what, len(args)).WithHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// minArgs wants at least n arguments, which what describes.
func minArgs(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return mistake.New("%s needs %s", cmd.CommandPath(), what).WithHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// rangeArgs wants low to high arguments, which what describes.
func rangeArgs(low, high int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return mistake.New("%s takes %s, got %d arguments", cmd.CommandPath(), what, len(args)).WithHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// flagError names the flag that may have been meant.
func flagError(cmd *cobra.Command, err error) error {
	if !cmd.HasParent() && cmd.Flags().NArg() > 0 { // flags of a command that there is not
		return unknownCommand(cmd, cmd.Flags().Args())
	}
	see := fmt.Sprintf("see %q", cmd.CommandPath()+" --help")
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		if f := value.GetFlag(); wantedValue(f) != "" {
			return mistake.New("--%s %q: want %s", f.Name, value.GetValue(), wantedValue(f)).WithHint("%s", see)
		}
	}
	e := mistake.New("%v", err).WithHint("%s", see)
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return e
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	if near, ok := mistake.Nearest(name, known); ok {
		e.WithHint("did you mean --%s? See %q", near, cmd.CommandPath()+" --help")
	}
	return e
}

// wantedValue is what a flag's value is to be, "" if its own error tells.
func wantedValue(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "float64":
		return "a number, as 1.5"
	case "int", "int64":
		return "a whole number"
	case "uint", "uint64":
		return "a whole number that is not negative"
	case "bool":
		return "true or false"
	case "duration":
		return "a time, as 90s or 15m"
	}
	return ""
}
