package build

import (
	"fmt"
	"slices"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/executor/builds"
	"layered.build/builder/planner"
)

// tellReruns adds to what was found about an ARG how long the steps took that ran because it
// changed, and that do not use it.
func (p *Plan) tellReruns(steps []builds.Step) {
	for i, w := range p.Warnings {
		name, ok := planner.VolatileArg(w)
		if !ok {
			continue
		}
		count, took := 0, time.Duration(0)
		for n, s := range p.Graph.Steps {
			changed := slices.ContainsFunc(steps[n].Changes, func(c executor.Change) bool { return c.Name == "ARG "+name })
			if steps[n].Result == builds.Ran && changed && slices.Contains(s.Meta.IdleArgs, name) {
				count, took = count+1, took+steps[n].Duration
			}
		}
		if count > 0 {
			p.Warnings[i].Message += fmt.Sprintf(" (in this build %d such steps ran for %.1fs since it changed)", count, took.Seconds())
		}
	}
}
