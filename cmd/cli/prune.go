package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/collect"
	"layered.build/builder/cmd/engine"
)

func (a *app) pruneCommand() *cobra.Command {
	f := &flags.Prune{}
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove build cache, cache mounts, downloads and images without a name",
		Long: `Remove what no image with a name, no kept run and no running build needs: layers
and records of the build cache, cache mounts, downloaded sources, compressed
layers, images without a name. With --all also the cache records that lead to
layers of images with a name, the stat indexes of contexts, and logs. With
sizes, the least recently used goes first, and only as much as they ask for.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.Parse()
			if err != nil {
				return err
			}
			return a.prune(cmd.Context(), opts, f.Force, f.Warning())
		},
	}
	f.Register(cmd.Flags())
	return cmd
}

// imageCommand has docker's names for what is done with images. It has them only if it is
// meant, since making them takes a while.
func (a *app) imageCommand(meant bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image COMMAND",
		Short: "Commands for images, by the names that docker has for them below image",
		Args:  unknownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if !meant {
		return cmd
	}
	list, remove := a.imagesCommand(), a.rmiCommand()
	list.Use, list.Aliases = "ls [OPTIONS] [NAME]", []string{"list"}
	remove.Use, remove.Aliases = "rm [OPTIONS] IMAGE...", []string{"remove"}
	cmd.AddCommand(
		a.buildCommand(), a.historyCommand(), a.importCommand(), a.inspectCommand(), a.loadCommand(), list,
		a.pruneImagesCommand(), a.pullCommand(), a.pushCommand(), remove, a.saveCommand(), a.tagCommand(),
	)
	return cmd
}

func (a *app) pruneImagesCommand() *cobra.Command {
	f := &flags.PruneImages{}
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove images without a name, or with --all all images",
		Long: `Remove images without a name, and the layers that nothing but these leads to. With
--all also images with a name. Layers that the build cache leads to stay, until
"builder prune". With --filter until=, only images that were not used for so long.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts, err := f.Parse(time.Now())
			if err != nil {
				return err
			}
			return a.prune(cmd.Context(), opts, f.Force, f.Warning())
		},
	}
	f.Register(cmd.Flags())
	return cmd
}

// prune asks the user unless force is set, removes, and says what went.
func (a *app) prune(ctx context.Context, opts collect.PruneOptions, force bool, warning string) error {
	if !force {
		if ok, err := a.confirm(warning); err != nil || !ok {
			return err
		}
	}
	return a.withEngine(ctx, engine.Access{}, func(e *engine.Engine) error {
		pruned, err := e.Collector().Prune(ctx, opts)
		if err != nil {
			return err
		}
		if err := printPruned(a.std.Out, pruned); err != nil {
			return err
		}
		if opts.All && opts.Budget.Exceeds(pruned.Left) {
			a.warn(a.std.Err, engine.OverBudget(pruned.Left, opts.Budget.MaxUsed))
		}
		return nil
	})
}

// confirm asks the user. What is not yes is no.
func (a *app) confirm(question string) (bool, error) {
	fmt.Fprintf(a.std.Out, "%s\nAre you sure you want to continue? [y/N] ", question)
	line, err := bufio.NewReader(a.std.In).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func printPruned(w io.Writer, p *collect.Pruned) error {
	if len(p.Items) > 0 {
		tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
		fmt.Fprintln(tw, "ID\tTYPE\tRECLAIMABLE\tSIZE\tLAST USED\tDESCRIPTION")
		for _, it := range p.Items {
			printItem(tw, it, true)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "Total:\t%s\n", size(p.Bytes))
	return err
}
