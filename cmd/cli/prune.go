package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

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
			if !f.Force {
				if ok, err := a.confirm(f.Warning()); err != nil || !ok {
					return err
				}
			}
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				pruned, err := e.Collector().Prune(cmd.Context(), opts)
				if err != nil {
					return err
				}
				return printPruned(a.std.Out, pruned)
			})
		},
	}
	f.Register(cmd.Flags())
	return cmd
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
