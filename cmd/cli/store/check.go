package store

import (
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/snapshot/gc"
)

func (p Program) check() *cobra.Command {
	var repair, quick bool
	cmd := &cobra.Command{
		Use:   "check [OPTIONS]",
		Short: "Verify layers, blobs, cache records and images; exit with 1 if something is wrong",
		Args:  none,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.WithStore(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				n, err := e.Collector().Check(cmd.Context(), collect.CheckOptions{
					Quick: quick, Repair: repair,
					Report: func(found gc.Problem) { fmt.Fprintf(p.Out, "%s: %v\n", found.Object, found.Err) },
				})
				if err != nil {
					return err
				}
				fmt.Fprintf(p.Out, "%d layers, %d blobs, %d cache records, %d steps, %d images: %d problems\n",
					n.Layers, n.Blobs, n.Records, n.Steps, n.Images, n.Problems)
				if n.Problems == 0 {
					return nil
				}
				if repair {
					_, err := fmt.Fprintln(p.Out, "What is wrong was mended or removed.")
					return err
				}
				fmt.Fprintln(p.Out, "hint: `builder store check --repair` mends what is wrong, or removes it; the next build makes it again")
				return p.Wrong
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "mend what is wrong, or remove it")
	cmd.Flags().BoolVar(&quick, "quick", false, "do not rebuild the layers' tars")
	return cmd
}
