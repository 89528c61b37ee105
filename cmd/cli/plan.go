package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

func (a *app) planCommand() *cobra.Command {
	f := &buildFlags{}
	var graph bool
	cmd := &cobra.Command{
		Use:   "plan [OPTIONS] PATH|-",
		Short: "Show what a build would do, without doing it",
		Args:  exactArgs(1, "the context's directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.plan(cmd.Context(), f, args[0], graph)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&graph, "graph", false, "print the graph only")
	a.reg.register(cmd.Flags())
	return cmd
}

// plan is `builder plan`.
func (a *app) plan(ctx context.Context, f *buildFlags, path string, graph bool) (err error) {
	j, err := a.newJob(f, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if j.display, err = progress.New(progress.Quiet, a.std.Err); err != nil {
		return err
	}
	if err := j.makePlan(ctx); err != nil {
		j.warn(progress.Plain, err)
		return j.explain(err)
	}
	if _, err := fmt.Fprint(a.std.Out, j.plan.Graph.String()); err != nil || graph {
		return err
	}
	if err := j.printVerdicts(ctx); err != nil {
		return j.explain(err)
	}
	j.warn(progress.Plain, nil)
	return nil
}

// printVerdicts says of every step whether it would run, and why.
func (j *job) printVerdicts(ctx context.Context) error {
	j.newSolver()
	var roots []dag.Edge
	for _, t := range j.plan.Targets {
		roots = append(roots, t.Result)
	}
	steps, err := j.solver.Plan(ctx, roots)
	if err != nil {
		return err
	}
	w := j.app.std.Out
	fmt.Fprintln(w, "\n# what would be done")
	runs := 0
	for _, s := range steps {
		if s.Verdict == executor.VerdictRun || s.Verdict == executor.VerdictMaybe {
			runs++
		}
		fmt.Fprintf(w, "%-10s %s", s.Verdict, s.Step.Meta.Name)
		if s.Reason != "" {
			fmt.Fprintf(w, "  (%s)", s.Reason)
		}
		fmt.Fprintln(w)
		for _, c := range s.Changed {
			fmt.Fprintf(w, "           %s: %s -> %s\n", c.Name, orNone(c.Before), orNone(c.After))
		}
	}
	for _, s := range j.plan.Skipped {
		fmt.Fprintf(w, "%-10s stage %s: the target does not need it\n", "skipped", s)
	}
	_, err = fmt.Fprintf(w, "# %d of %d steps would run\n", runs, len(steps))
	return err
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
