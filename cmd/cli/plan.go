package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/cli/why"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
)

func (a *app) planCommand() *cobra.Command {
	f := &flags.Build{}
	var graph bool
	cmd := &cobra.Command{
		Use:   "plan [OPTIONS] PATH|-",
		Short: "Show what a build would do, without doing it",
		Args:  exactArgs(1, "the context's directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			inv, err := f.Parse(args[0], a.environment())
			if err != nil {
				return err
			}
			return a.plan(cmd.Context(), inv, graph)
		},
	}
	f.Register(cmd.Flags())
	cmd.Flags().BoolVar(&graph, "graph", false, "print the graph only")
	return cmd
}

// quietly is the observer of what is not shown.
func quietly(executor.Event) {}

// plan is `builder plan`.
func (a *app) plan(ctx context.Context, inv *flags.Invocation, graph bool) error {
	return a.withJob(ctx, inv, a.std.Err, func(e *engine.Engine, in build.Inputs) error {
		r := &reporter{out: a.std.Out, err: a.std.Err, inv: inv, mode: progress.Plain}
		j := build.New(e, inv.Request, in, quietly)
		p, err := j.Plan(ctx)
		if err != nil {
			r.warn(nil, err)
			return err
		}
		if _, err := fmt.Fprint(a.std.Out, p.Graph.String()); err != nil || graph {
			return err
		}
		steps, err := j.Verdicts(ctx, p)
		if err == nil {
			err = why.PrintVerdicts(a.std.Out, p, steps)
		}
		if err == nil {
			r.warn(p, nil)
		}
		return err
	})
}
