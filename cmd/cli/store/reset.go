package store

import (
	"fmt"

	"github.com/spf13/cobra"

	"layered.build/builder/snapshot/folder"
)

func (p Program) reset() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "reset [OPTIONS]",
		Short: "Remove the store with all images, kept runs, caches and downloads",
		Long: `Remove the store with all that is in it: images, kept runs, the build cache, cache
mounts and downloads, also what belongs to ids that only a user namespace has, which rm
cannot remove. Nobody may be using the store.`,
		Args: none,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, err := p.Root()
			if err != nil {
				return err
			}
			if !force {
				if ok, err := p.Confirm("This removes all images, runs and caches in " + root + "."); err != nil || !ok {
					return err
				}
			}
			if err := folder.Reset(root); err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Out, "Removed", root)
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	return cmd
}
