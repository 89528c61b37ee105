package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/mounts/carry"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/task"
	"layered.build/builder/executor"
	"layered.build/builder/executor/builds"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/parser"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/export"
)

// Job is one build. Its methods may be called by one goroutine at a time, each once.
type Job struct {
	e   *engine.Engine
	req Request
	in  Inputs
	obs executor.Observer
	// shared is the cache if there are others than the machine's; else nil.
	shared *shared.Session
	// carrier carries cache mounts between the shared caches and this machine; nil: none is.
	carrier *carry.Carrier
}

// New returns a build on an engine that is its own. The observer is told of steps and of
// work beside them; the errors that it is told hold an *Error once the Dockerfile is known.
func New(e *engine.Engine, req Request, in Inputs, obs executor.Observer) *Job {
	j := &Job{e: e, req: req, in: in, obs: obs}
	j.carrier = j.newCarrier()
	j.shared = j.newSession()
	return j
}

// Plan is what is to be done.
type Plan struct {
	*planner.Plan
	Definition *Definition
	// File is the parsed Dockerfile.
	File *parser.File

	images     *resolver
	secretScan dag.SecretScan
	devices    *cdi.Registry // those of this machine, if a step asks for one
	mountKey   string        // see Job.mountKey
}

// Parse loads what is to be built and parses it, and resolves nothing.
func (j *Job) Parse(ctx context.Context) (*Definition, *parser.File, error) {
	def, err := j.in.Definition(ctx, j.obs)
	if err != nil {
		return nil, nil, err
	}
	var file *parser.File
	err = task.Run(ctx, j.obs, "[internal] load build definition from "+def.Name, func(_ context.Context, t *task.Task) error {
		t.Item(fmt.Sprintf("transferring dockerfile: %dB", len(def.Source)))
		file, err = parser.Parse(def.Name, def.Source)
		return err
	})
	return def, file, err
}

// Plan parses the Dockerfile and plans what is to be done. Steps that need what was not
// granted are refused. Where the Dockerfile could be parsed, an error holds an *Error; the
// plan is nil then.
func (j *Job) Plan(ctx context.Context) (*Plan, error) {
	def, file, err := j.Parse(ctx)
	if err != nil {
		return nil, err
	}
	p := &Plan{Definition: def, File: file}
	if p.secretScan, err = secretScan(j.req.SecretScan, file); err != nil {
		return nil, p.explain(err)
	}
	p.images = newResolver(j.e, j.req.Pull, j.explained(p))
	opts := j.req.Plan
	opts.Contexts, opts.Layouts, opts.Times = def.Contexts, p.images, j.in.Times
	opts.WholeContext, opts.ContextOwners = def.Whole, def.Owners
	if def.Ignore != nil {
		opts.Excludes = def.Ignore.Texts()
	}
	if p.Plan, err = planner.Build(ctx, file, p.images, opts); err != nil {
		err = p.explain(err)
		j.obs(executor.Event{Type: executor.EventFailed, Time: time.Now(), Task: PlanTask, Err: err})
		return nil, err
	}
	if err := export.CheckEpochs(j.req.Exporters, p.Epoch); err != nil {
		return nil, p.explain(err)
	}
	p.mountKey = j.mountKey(ctx, p, opts.Excludes)
	if p.devices, err = p.findDevices(); err != nil {
		return nil, p.explain(err)
	}
	if err := p.checkAllowed(j.req.Grants); err != nil {
		return nil, p.explain(err)
	}
	return p, nil
}

// PlanTask is the task that fails if a Dockerfile cannot be planned; it is shown only then.
const PlanTask = "[internal] plan the build"

// explained is the job's observer, whose errors the plan explains.
func (j *Job) explained(p *Plan) executor.Observer {
	return func(ev executor.Event) {
		ev.Err = p.explain(ev.Err)
		j.obs(ev)
	}
}

// Run plans, solves and exports. Planned is told of the plan before anything is done.
func (j *Job) Run(ctx context.Context, planned func(*Plan)) (*Product, error) {
	if d := j.req.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, &executor.TimeoutError{After: d, What: "the build"})
		defer cancel()
	}
	rec := builds.NewRecorder()
	began, tell := time.Now(), j.obs
	j.obs = func(ev executor.Event) { rec.Observe(ev); tell(ev) }
	if j.shared != nil && j.e.Store.IsNew() { // nothing is here that could do without
		stop := j.shared.Preload(ctx)
		defer stop()
	}
	// Both take some milliseconds; planning mostly waits for registries.
	var group errgroup.Group
	var sandbox engine.Sandbox
	group.Go(func() (err error) {
		if err := j.e.Host().CheckBudget(); err != nil {
			return err
		}
		if sandbox, err = j.e.OpenSandbox(ctx, j.req.Total); err != nil {
			return err
		}
		j.e.Collect(ctx) // of a disk that is full already
		return nil
	})
	p, err := j.Plan(ctx)
	if gerr := group.Wait(); gerr != nil {
		err = errors.Join(err, p.explain(gerr))
	}
	if err != nil {
		return nil, err
	}
	if err := j.checkSteps(p); err != nil {
		return nil, p.explain(err)
	}
	for _, n := range append(p.unknownStages(), engine.Notes(sandbox, j.req.Plan.Limits, j.req.Plan.Ulimits, asksSizes(p.Graph))...) {
		j.obs(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: []byte(n)})
	}
	if planned != nil {
		planned(p)
	}
	made, err := j.make(ctx, p, sandbox)
	steps := rec.Steps(p.Graph)
	p.tellReruns(steps)
	j.remember(&builds.Build{Started: began, Steps: steps}, p, made, err)
	return made, err
}

// remember keeps what became of the build, for `builder why`.
func (j *Job) remember(b *builds.Build, p *Plan, made *Product, err error) {
	b.Duration, b.Dockerfile, b.Project = time.Since(b.Started), p.Definition.Name, p.Definition.Project
	if err != nil {
		b.Error = err.Error()
	}
	if made != nil {
		b.Names = made.Names
		for _, img := range made.Images {
			b.Images = append(b.Images, img.ID)
			if img.Manifest != nil {
				b.Images = append(b.Images, img.Manifest.Digest)
			}
		}
		if made.Manifest.Digest != "" {
			b.Images = append(b.Images, made.Manifest.Digest)
		}
	}
	if err := j.e.Builds().Add(b); err != nil {
		j.obs(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: []byte(err.Error())})
	}
}

// checkSteps refuses a plan that runs processes where none can run.
func (j *Job) checkSteps(p *Plan) error {
	runs := func(s *dag.Step) bool { _, ok := s.Op.(*dag.Exec); return ok }
	if slices.ContainsFunc(p.Graph.Steps, runs) {
		return j.e.Host().Rung().Lack
	}
	return nil
}

// asksSizes reports whether any step is to have a file system in memory of a certain
// size.
func asksSizes(g *dag.Graph) bool {
	return slices.ContainsFunc(g.Steps, func(s *dag.Step) bool {
		op, ok := s.Op.(*dag.Exec)
		return ok && (op.ShmSize > 0 || slices.ContainsFunc(op.Mounts, func(m dag.Mount) bool { return m.Size > 0 }))
	})
}
