package caches

import (
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/collect"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/snapshot/gc"
)

func (p Program) verify() *cobra.Command {
	var from string
	var quick bool
	cmd := &cobra.Command{
		Use:   "verify [OPTIONS]",
		Short: "Verify that all that records name is there and what it should be; exit with 1 if not",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				problems := 0
				if from == "" {
					n, err := e.Collector().Check(cmd.Context(), collect.CheckOptions{
						Quick: quick, Report: func(pr gc.Problem) { fmt.Fprintf(p.Out, "%s: %v\n", pr.Object, pr.Err) },
					})
					if err != nil {
						return err
					}
					fmt.Fprintf(p.Out, "%d records, %d layers, %d blobs: %d problems\n", n.Records, n.Layers, n.Blobs, n.Problems)
					problems = n.Problems
				} else {
					c, err := p.read(cmd.Context(), e, from)
					if err != nil {
						return err
					}
					v, err := c.Verify(cmd.Context(), quick, p.report)
					if err != nil {
						return err
					}
					fmt.Fprintf(p.Out, "%d records, %d cache mounts, %d blobs: %d problems\n", v.Records, v.Mounts, v.Blobs, v.Problems)
					problems = v.Problems
				}
				if problems > 0 {
					return p.Failed
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", fromUsage+"; with verify-key= signatures are verified")
	cmd.Flags().BoolVar(&quick, "quick", false, "do not read layers")
	return cmd
}

// report prints a problem.
func (p Program) report(pr shared.Problem) {
	scope := ""
	if pr.Scope != "" {
		scope = "scope " + pr.Scope + ": "
	}
	fmt.Fprintf(p.Out, "%s%s: %v\n", scope, pr.Object, pr.Err)
}
