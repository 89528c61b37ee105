package why

import (
	"fmt"
	"io"
	"strings"

	"layered.build/builder/cmd/build"
	"layered.build/builder/executor"
)

// PrintVerdicts says of every step of a plan whether it would run, and why.
func PrintVerdicts(w io.Writer, p *build.Plan, steps []executor.StepPlan) error {
	var text strings.Builder
	text.WriteString("\n# what would be done\n")
	runs := 0
	for _, s := range steps {
		if s.Verdict == executor.VerdictRun || s.Verdict == executor.VerdictMaybe {
			runs++
		}
		fmt.Fprintf(&text, "%-10s %s", s.Verdict, s.Step.Meta.Name)
		if s.Reason != "" {
			fmt.Fprintf(&text, "  (%s)", s.Reason)
		}
		text.WriteString("\n")
		for _, c := range s.Changed {
			fmt.Fprintf(&text, "           %s: %s -> %s\n", c.Name, orNone(c.Before), orNone(c.After))
		}
	}
	for _, s := range p.Skipped {
		fmt.Fprintf(&text, "%-10s stage %s: the target does not need it\n", "skipped", s)
	}
	fmt.Fprintf(&text, "# %d of %d steps would run\n", runs, len(steps))
	_, err := io.WriteString(w, text.String())
	return err
}
