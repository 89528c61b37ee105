package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/snapshot/gc"
)

func (a *app) storeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after the store",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.storeCheckCommand())
	return cmd
}

func (a *app) storeCheckCommand() *cobra.Command {
	var repair, quick bool
	cmd := &cobra.Command{
		Use:   "check [OPTIONS]",
		Short: "Verify layers, blobs, cache records and images; exit with 1 if something is wrong",
		Args:  exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				n, err := e.Collector().Check(cmd.Context(), collect.CheckOptions{
					Quick: quick, Repair: repair,
					Report: func(p gc.Problem) { fmt.Fprintf(a.std.Out, "%s: %v\n", p.Object, p.Err) },
				})
				if err != nil {
					return err
				}
				fmt.Fprintf(a.std.Out, "%d layers, %d blobs, %d cache records, %d steps, %d images: %d problems\n",
					n.Layers, n.Blobs, n.Records, n.Steps, n.Images, n.Problems)
				if n.Problems == 0 {
					return nil
				}
				if repair {
					_, err := fmt.Fprintln(a.std.Out, "What is wrong was removed.")
					return err
				}
				fmt.Fprintln(a.std.Out, "hint: `builder store check --repair` removes what is wrong; the next build makes it again")
				return &exitError{code: ExitBuild}
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove what is wrong")
	cmd.Flags().BoolVar(&quick, "quick", false, "do not rebuild the layers' tars")
	return cmd
}
