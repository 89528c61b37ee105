package executor

import (
	"context"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// Verdict is what a dry run says of a step.
type Verdict string

// The verdicts.
const (
	VerdictCached   Verdict = "cached"    // a record exists under the definition key
	VerdictRun      Verdict = "run"       // no record, and an input or the step itself is new
	VerdictMaybe    Verdict = "maybe run" // an input has to be made first; equal content would still hit
	VerdictUnneeded Verdict = "unneeded"  // only steps that are cached would read its result
	VerdictSource   Verdict = "source"    // named by a digest, or read anew each time
)

// StepPlan is what a dry run says of one step.
type StepPlan struct {
	Step    *dag.Step
	Verdict Verdict
	// Key is the definition key, Parts are its components.
	Key   cache.Key
	Parts []cache.Part
	// Reason says in words why.
	Reason string
	// Changed are the components that differ from the step's latest record.
	Changed []Change
}

// Change is one component of a key that differs. Before or After is "" where the
// component did not exist.
type Change struct {
	Name, Before, After string
}

// Plan says for every step that the roots reach, inputs first, whether a Solve
// would run it, and why. Nothing is run; contexts are read.
func (s *Solver) Plan(ctx context.Context, roots []dag.Edge) ([]StepPlan, error) {
	return s.plan(ctx, roots)
}
