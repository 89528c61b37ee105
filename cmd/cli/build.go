package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/build/inputs"
	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/config"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/registry/export"
	"layered.build/builder/snapshot/files"
)

func (a *app) buildCommand() *cobra.Command {
	f := &flags.Build{}
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH|-",
		Short:   "Build an image from a Dockerfile",
		Example: "  builder build -t app .\n  builder build -t app -f docker/Dockerfile --target test .\n  builder build -t app - < Dockerfile",
		Args:    exactArgs(1, "the context's directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := f.Parse(args[0], a.environment())
			if err != nil {
				return err
			}
			if inv.Call.What != flags.CallBuild {
				return a.answer(cmd.Context(), inv)
			}
			return a.build(cmd.Context(), inv)
		},
	}
	f.Register(cmd.Flags())
	return cmd
}

// environment is what command lines are read in.
func (a *app) environment() flags.Environment {
	return flags.Environment{Lookup: os.LookupEnv, Stdin: a.std.In, Version: a.version, Proxies: a.proxies(), Config: config.SystemFiles().Read}
}

// proxies are the variables that docker's config.json has for builds and containers.
func (a *app) proxies() map[string]string {
	file, err := credentials.DockerFile()
	if err != nil {
		return nil
	}
	d := config.ReadDocker(string(file))
	for _, p := range d.Problems {
		if !slices.Contains(slices.Collect(maps.Values(d.Broken)), p) { // that of a login is told when it is wanted
			a.warn(a.std.Err, p)
		}
	}
	return d.Proxies(os.Getenv("DOCKER_HOST"))
}

// withJob calls fn with a build and what it reads. Warnings of the engine go to warn.
func (a *app) withJob(ctx context.Context, inv *flags.Invocation, warn io.Writer, fn func(*engine.Engine, build.Inputs) error) (err error) {
	found, err := inputs.Find(ctx, inv.Inputs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	h, err := a.host(inv.Processes, warn)
	if err != nil {
		return err
	}
	e, err := h.Open(ctx, inv.Access)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	paths := found.Paths()
	paths["store"] = h.Root()
	if err := export.KeepInputs(inv.Request.Exporters, paths); err != nil {
		return err
	}
	in, err := found.Open(e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	build := in.Inputs(a.disk(), flags.EngineSettings())
	if build.Caches, err = inv.Caches.Open(e); err != nil {
		return err
	}
	return fn(e, build)
}

// build is `builder build`.
func (a *app) build(ctx context.Context, inv *flags.Invocation) (err error) {
	mode, err := progress.ParseMode(inv.Progress)
	if err != nil {
		return mistake.New("%w", err)
	}
	r := &reporter{out: a.std.Out, err: a.std.Err, inv: inv, mode: mode}
	if inv.LogFile != "" {
		f, ferr := os.Create(inv.LogFile)
		if ferr != nil {
			return mistake.New("--logfile: %w", ferr)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		r.err = f
	}
	return a.withJob(ctx, inv, r.err, func(e *engine.Engine, in build.Inputs) error {
		// A script must not find the id of an earlier build after one that failed.
		for _, p := range []string{inv.IDFile, inv.MetadataFile} {
			if p == "" {
				continue
			}
			if err := files.Clear(p); err != nil {
				return mistake.New("%w", err)
			}
		}
		return r.build(ctx, e, in, append(inv.Notes, a.isolationNotes(mode)...))
	})
}

// reporter shows a build to whoever asked for it.
type reporter struct {
	out, err io.Writer
	inv      *flags.Invocation
	mode     progress.Mode
	found    findings
}

// build does a build and shows it.
func (r *reporter) build(ctx context.Context, e *engine.Engine, in build.Inputs, notes []string) error {
	display, err := progress.New(r.mode, r.err, "Building")
	if err != nil {
		return mistake.New("%w", err)
	}
	locator, forPrograms := display.(progress.Locator)
	if forPrograms {
		locator.Locate(locate)
	}
	if r.mode != progress.Quiet {
		for _, n := range notes {
			fmt.Fprintf(r.err, "note: %s\n", n)
		}
	}
	used := &stats{}
	observe := func(ev executor.Event) {
		if ev.Task == build.PlanTask && !forPrograms { // for people it is shown at the end
			return
		}
		display.Observe(ev)
		used.observe(ev)
		r.found.observe(ev)
	}
	var plan *build.Plan
	made, err := build.New(e, r.inv.Request, in, observe).Run(ctx, func(p *build.Plan) {
		plan = p
		display.Announce(p.Graph.Steps)
	})
	err = errors.Join(err, display.Close())
	if r.inv.Stats && r.mode != progress.JSON {
		err = errors.Join(err, used.print(r.err))
	}
	if r.mode != progress.Quiet && r.mode != progress.JSON {
		r.warn(plan, err)
	}
	if err != nil {
		return err
	}
	if err := r.finish(made); err != nil || len(made.Differing) == 0 {
		return err
	}
	return &exitError{code: ExitBuild, err: fmt.Errorf("--cache-verify: steps that made something else than the cache has: %s", strings.Join(made.Differing, "; "))}
}

// finish writes what scripts read: the id on stdout or in a file, the metadata.
func (r *reporter) finish(p *build.Product) error {
	if r.inv.Quiet && !r.onlyCache() {
		if _, err := fmt.Fprintln(r.out, p.ID()); err != nil {
			return err
		}
	}
	if r.inv.IDFile != "" {
		if err := files.WriteBytes(r.inv.IDFile, 0o644, []byte(p.ID())); err != nil {
			return fmt.Errorf("write --iidfile: %w", err)
		}
	}
	if r.inv.MetadataFile == "" {
		return nil
	}
	meta := p.Metadata()
	if len(p.Names) > 0 {
		meta["image.name"] = strings.Join(p.Names, ",")
	}
	data, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	if err := files.WriteBytes(r.inv.MetadataFile, 0o644, append(data, '\n')); err != nil {
		return fmt.Errorf("write --metadata-file: %w", err)
	}
	return nil
}

func (r *reporter) onlyCache() bool {
	all := r.inv.Request.Exporters
	return len(all) == 1 && all[0].Kind() == export.CacheOnly
}
