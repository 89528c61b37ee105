package build

import (
	"context"

	"layered.build/builder/cmd/task"
	"layered.build/builder/executor"
	"layered.build/builder/executor/local"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Solution is what the steps of a plan made.
type Solution struct {
	plan    *Plan
	solver  *executor.Solver
	results []executor.Result // of plan.Targets
}

// Solve makes the results of the targets. The steps of all their instructions
// are asked for, so that each can be recorded as an image even if the cache
// knows the last one. Without a sandbox no process can run. What was done before an error
// is recorded; the error holds an *Error.
//
// If a file of a context is not what it was hashed as when it is copied, all begins anew
// with the files as they are then; and if a shared cache has not what it promised, without
// that.
func (j *Job) Solve(ctx context.Context, p *Plan, sb sandbox.Sandbox) (*Solution, error) {
	at := newAttempts(j.explained(p), p.Graph)
	if j.shared != nil {
		at.doubts = j.shared.Doubts
	}
	for {
		s, err := j.solve(ctx, p, sb, at)
		if err == nil {
			return s, nil
		}
		switch {
		case j.in.Renew != nil && ctx.Err() == nil && at.again(err):
			j.in.Renew()
		case j.shared != nil && j.shared.Recover(ctx, err):
			at.anew()
		default:
			at.over()
			return nil, j.keepFinished(ctx, s, err)
		}
	}
}

// solve is one attempt. It returns a Solution in any case.
func (j *Job) solve(ctx context.Context, p *Plan, sb sandbox.Sandbox, at *attempts) (*Solution, error) {
	roots := targets(p)
	for _, t := range p.Targets {
		for _, in := range t.Instructions {
			if in.Step != nil {
				roots = append(roots, dag.Edge{Step: in.Step})
			}
		}
	}
	if j.req.AllTargets {
		for _, st := range p.Stages {
			roots = append(roots, st.Result)
		}
	}
	fetch := task.NewLazy(j.obs, "[internal] fetch layers")
	aheadCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := j.newAhead(aheadCtx, p)
	s := &Solution{plan: p, solver: j.newSolver(p, sb, func(ev executor.Event) { at.observe(ev); a.observe(ev) }, a.tap)}
	a.start(s.solver)
	results, err := s.solver.Solve(fetch.With(ctx), roots)
	if err != nil {
		cancel()
	}
	a.stop()
	fetch.End(err)
	if err != nil {
		return s, err
	}
	s.results = results[:len(p.Targets)]
	return s, nil
}

// Verdicts say of every step of a plan whether it would run, and why.
func (j *Job) Verdicts(ctx context.Context, p *Plan) ([]executor.StepPlan, error) {
	steps, err := j.newSolver(p, nil, j.explained(p), nil).Plan(ctx, targets(p))
	return steps, p.explain(err)
}

func targets(p *Plan) []dag.Edge {
	var out []dag.Edge
	for _, t := range p.Targets {
		out = append(out, t.Result)
	}
	return out
}

// inImages tells the steps that the images of the targets have the layers of.
func (p *Plan) inImages() func(*dag.Step) bool {
	steps := map[*dag.Step]bool{}
	for _, t := range p.Targets {
		for ; t != nil; t = t.Parent {
			for _, in := range t.Instructions {
				steps[in.Step] = true
			}
		}
	}
	return func(s *dag.Step) bool { return steps[s] }
}

// newSolver wires the executor.
func (j *Job) newSolver(p *Plan, sb sandbox.Sandbox, obs executor.Observer, tap func(*dag.Step, snapshot.Stack) snapshot.Tap) *executor.Solver {
	w := local.New(local.Machine{Store: j.e.Store, Sandbox: sb, Devices: p.devices}, local.Build{
		Contexts: j.in.Contexts, Images: p.images, Layouts: p.images, Remote: j.in.Remote,
		Secrets: j.in.Secrets, SecretScan: p.secretScan, Sent: j.in.Sent, Agents: j.in.Agents,
		SeccompProfiles: j.req.SeccompProfiles,
		Epoch:           p.Epoch,
		Tap:             tap, Named: p.inImages(),
		CacheMounts: j.cacheMounts(p),
	}, j.req.Grants)
	return executor.New(executor.Options{
		Cache: j.records(), Locker: j.e.Cache, Worker: w, Slots: j.e.Host().Slots(),
		Observer:    obs,
		Parallelism: j.req.Jobs, Project: p.Definition.Project, Verify: j.req.Verify,
	})
}
