package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/executor/local"
	"layered.build/builder/executor/source"
	"layered.build/builder/executor/sshagent"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/export"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

func (a *app) buildCommand() *cobra.Command {
	f := &buildFlags{}
	cmd := &cobra.Command{
		Use:     "build [OPTIONS] PATH|-",
		Short:   "Build an image from a Dockerfile",
		Example: "  builder build -t app .\n  builder build -t app -f docker/Dockerfile --target test .\n  builder build -t app - < Dockerfile",
		Args:    exactArgs(1, "the context's directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.build(cmd.Context(), f, args[0])
		},
	}
	f.register(cmd.Flags())
	a.reg.register(cmd.Flags())
	return cmd
}

// job is one build: its flags, its input and what works on it.
type job struct {
	app     *app
	flags   *buildFlags
	context *buildContext
	engine  *engine
	display progress.Display
	images  *resolver
	file    *parser.File
	plan    *planner.Plan
	solver  *executor.Solver
	outputs []export.Exporter
	secrets *executor.Ledger
	agents  sshagent.Agents
	devices *cdi.Registry
	call    call
	dirs    *source.Contexts
	ahead   *ahead
	stats   stats
	remote  *source.Remote
	// endAgent ends the ssh agent that git is given, if there is one.
	endAgent func() error
	before   string // the image or step that the failed step would have run on
}

// build is `builder build`.
func (a *app) build(ctx context.Context, f *buildFlags, path string) (err error) {
	j, err := a.newJob(f, path)
	if err != nil {
		return err
	}
	defer func() {
		a.autoCollect(ctx, j.engine)
		err = errors.Join(err, j.Close())
	}()
	if j.call.what != callBuild {
		return j.answer(ctx)
	}
	// A script must not find the id of an earlier build after one that failed.
	if err := removeOld(f.iidfile, f.metadataFile); err != nil {
		return err
	}
	closeLog, err := a.logTo(f.lang.logFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	mode, err := progress.ParseMode(f.progressMode())
	if err != nil {
		return mistake.New("%w", err)
	}
	if j.display, err = progress.New(mode, a.std.Err); err != nil {
		return mistake.New("%w", err)
	}
	if l, ok := j.display.(progress.Locator); ok {
		l.Locate(j.locate)
	}
	if mode != progress.Quiet {
		for _, n := range append(f.refused.notes(), a.isolationNotes(mode)...) {
			fmt.Fprintf(a.std.Err, "note: %s\n", n)
		}
	}
	made, err := j.run(ctx)
	err = errors.Join(err, j.display.Close())
	if f.total.stats && mode != progress.JSON {
		err = errors.Join(err, j.stats.print(a.std.Err))
	}
	j.warn(mode, err)
	if err != nil {
		return j.explain(err)
	}
	return j.finish(made)
}

func removeOld(paths ...string) error {
	for _, p := range paths {
		if p == "" {
			continue
		}
		if err := files.Clear(p); err != nil {
			return mistake.New("%w", err)
		}
	}
	return nil
}

// newJob checks the flags and finds everything that the build reads, before
// anything is shown or done.
func (a *app) newJob(f *buildFlags, path string) (*job, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	j := &job{app: a, flags: f}
	var err error
	if j.call, err = f.lang.parseCall(); err != nil {
		return nil, err
	}
	if j.outputs, err = f.parseOutputs(); err != nil {
		return nil, err
	}
	given, err := parseSecrets(f.secrets)
	if err != nil {
		return nil, err
	}
	j.secrets = executor.NewLedger(given)
	if j.agents, err = f.lang.agents(os.Getenv); err != nil {
		return nil, err
	}
	if j.context, err = openContext(path, f.file, a.std.In); err != nil {
		return nil, err
	}
	if err := j.readIgnoreFile(); err != nil {
		return nil, errors.Join(err, j.context.Close())
	}
	if a.reg.retry, err = f.lang.retries(); err != nil {
		return nil, errors.Join(err, j.context.Close())
	}
	if j.engine, err = a.openEngine(); err != nil {
		return nil, errors.Join(err, j.context.Close())
	}
	inputs := map[string]string{"context": j.context.dir, "Dockerfile": f.file, "store": j.engine.root}
	if err := export.KeepInputs(j.outputs, inputs); err != nil {
		return nil, errors.Join(err, j.engine.Close(), j.context.Close())
	}
	j.dirs = &source.Contexts{
		Dirs:     map[string]string{"context": j.context.dir},
		StateDir: j.engine.path("contexts"),
	}
	if err := j.openRemote(); err != nil {
		return nil, errors.Join(err, j.closeRemote(), j.engine.Close(), j.context.Close())
	}
	return j, nil
}

// Close releases what the build used.
func (j *job) Close() error {
	return errors.Join(j.dirs.Close(), j.closeRemote(), j.engine.Close(), j.context.Close())
}

// run plans, solves, and writes the outputs.
func (j *job) run(ctx context.Context) (*product, error) {
	total, err := j.flags.total.limits()
	if err != nil {
		return nil, err
	}
	total.Parent = j.flags.limits.cgroupParent
	if d := j.flags.total.timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &executor.TimeoutError{After: d, What: "the build"})
		defer cancel()
	}
	// Both take some milliseconds; planning mostly waits for registries.
	var group errgroup.Group
	group.Go(func() error {
		if err := j.engine.openSandbox(total); err != nil {
			return err
		}
		j.engine.reclaim(ctx, j.app.std.Err)
		j.app.autoCollect(ctx, j.engine) // of a disk that is full already
		return nil
	})
	err = j.makePlan(ctx)
	if err = errors.Join(err, group.Wait()); err != nil {
		return nil, err
	}
	if err := j.checkSteps(); err != nil {
		return nil, err
	}
	if err := j.noteLimits(); err != nil {
		return nil, err
	}
	j.newSolver()
	j.display.Announce(j.plan.Graph.Steps)
	results, err := j.solve(ctx)
	if err != nil {
		return nil, errors.Join(err, j.keepFinished(ctx, err))
	}
	return j.export(ctx, results)
}

// checkSteps refuses a plan that runs processes where none can run.
func (j *job) checkSteps() error {
	runs := func(s *dag.Step) bool { _, ok := s.Op.(*dag.Exec); return ok }
	if slices.ContainsFunc(j.plan.Graph.Steps, runs) {
		return j.app.stepsLack
	}
	return nil
}

// noteLimits tells which limits cannot be kept as they are asked for.
func (j *job) noteLimits() error {
	limits, err := j.flags.limits.limits()
	if err != nil {
		return err
	}
	ulimits, err := j.flags.limits.ulimits()
	if err != nil {
		return err
	}
	for _, n := range slices.Concat(j.engine.sandbox.LimitNotes(limits, ulimits), j.engine.sizeNotes(j.asksSizes())) {
		j.display.Observe(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: []byte(n)})
	}
	return nil
}

// asksSizes reports whether any step is to have a file system in memory of a certain
// size.
func (j *job) asksSizes() bool {
	return slices.ContainsFunc(j.plan.Graph.Steps, func(s *dag.Step) bool {
		op, ok := s.Op.(*dag.Exec)
		return ok && (op.ShmSize > 0 || slices.ContainsFunc(op.Mounts, func(m dag.Mount) bool { return m.Size > 0 }))
	})
}

// makePlan parses the Dockerfile and plans what is to be done.
func (j *job) makePlan(ctx context.Context) error {
	if j.images == nil {
		j.images = newResolver(j.engine, j.flags.lang.pull, j.display.Observe)
	}
	opts, err := j.flags.planOptions(os.LookupEnv)
	if err != nil {
		return err
	}
	if err := j.loadRemote(ctx); err != nil {
		return err
	}
	opts.AllStages = opts.AllStages || j.call.what == callCheck && opts.Target == "" // as BuildKit
	if opts.Contexts, err = j.namedContexts(); err != nil {
		return err
	}
	opts.Times, opts.Layouts = sourceTimes{j}, j.images
	opts.ContextOwners = len(j.context.owners) > 0
	j.dirs.Owners = map[string]map[string]source.Owner{"context": j.context.owners}
	opts.Excludes = j.context.ignore.Texts()
	err = j.task("[internal] load build definition from "+j.context.name, func(t *task) error {
		t.item(fmt.Sprintf("transferring dockerfile: %dB", len(j.context.src)))
		j.file, err = parser.Parse(j.context.name, j.context.src)
		return err
	})
	if err != nil {
		return err
	}
	if j.plan, err = planner.Build(ctx, j.file, j.images, opts); err != nil {
		if _, ok := j.display.(progress.Locator); ok { // for people it is shown at the end
			j.display.Observe(executor.Event{Type: executor.EventFailed, Time: time.Now(), Task: "[internal] plan the build", Err: err})
		}
		return err
	}
	if err := export.CheckEpochs(j.outputs, j.plan.Epoch); err != nil {
		return err
	}
	return j.checkAllowed()
}

// newSolver wires the executor.
func (j *job) newSolver() {
	w := local.New(local.Machine{Store: j.engine.store, Sandbox: j.engine.sandbox, Devices: j.devices}, local.Build{
		Contexts:        j.dirs,
		Images:          j.images,
		Layouts:         j.images,
		Remote:          j.remote,
		Secrets:         j.secrets,
		Agents:          j.agents,
		SeccompProfiles: j.flags.lang.run.profiles(),
		Epoch:           j.plan.Epoch,
		Tap:             func(step *dag.Step, below snapshot.Stack) snapshot.Tap { return j.ahead.tap(step, below) },
		Sent:            j.secrets.Used,
	}, j.flags.grants())
	j.solver = executor.New(executor.Options{
		Cache: j.engine.cache, Locker: j.engine.cache, Worker: w, Observer: j.observe,
		Parallelism: j.flags.jobs, Verify: j.flags.verify,
	})
}

// observe tells an event of a step to all that want to know.
func (j *job) observe(ev executor.Event) {
	j.display.Observe(ev)
	j.stats.observe(ev)
	j.ahead.observe(ev)
}

// explain adds the Dockerfile to an error, so that its lines can be shown.
func (j *job) explain(err error) error {
	if j.file == nil {
		return err
	}
	return &sourceError{err: err, file: j.file, before: j.before, ignore: j.context.ignore}
}
