package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/containers"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/export"
)

func (a *app) commitCommand() *cobra.Command {
	o := containers.CommitOptions{}
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] RUN [NAME]",
		Short: "Make an image of what a kept run left",
		Args:  rangeArgs(1, 2, "a run and perhaps a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				r, err := e.Runs().Find(args[0])
				if err != nil {
					return err
				}
				if r.Record.Finished == nil {
					return mistake.New("run %s has not ended", args[0]).WithHint("only what an ended run left can become an image")
				}
				o.Names = args[1:]
				if err := export.CheckNames(o.Names...); err != nil {
					return err
				}
				img, err := containers.Commit(cmd.Context(), e, r.Record, o)
				if err == nil {
					_, err = fmt.Fprintln(a.std.Out, img.ID)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVarP(&o.Author, "author", "a", "", "author")
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "comment in the history")
	flags.ArrayVar(cmd.Flags(), &o.Changes, "change", "c", "Dockerfile instruction that changes the configuration; may be repeated")
	return cmd
}
