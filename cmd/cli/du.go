package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/collect"
	"layered.build/builder/cmd/engine"
)

func (a *app) duCommand() *cobra.Command {
	var verbose bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "du [OPTIONS]",
		Short: "Show what the store holds, and what prune could remove",
		Args:  exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			match, err := flags.ItemFilters(filters)
			if err != nil {
				return err
			}
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				usage, err := e.Collector().Usage(cmd.Context())
				if err != nil {
					return err
				}
				if len(filters) > 0 {
					usage.Items = slices.DeleteFunc(usage.Items, func(it collect.Item) bool { return !match(it) })
					usage.Total = 0
					for _, it := range usage.Items {
						usage.Total += it.Size
					}
				}
				sortItems(usage.Items)
				if format == "json" {
					return printUsageJSON(a.std.Out, usage)
				}
				return printUsage(a.std.Out, usage, verbose)
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "every item, not only the sum of each kind")
	cmd.Flags().StringVar(&format, "format", "", "json: one object a line for every item")
	flags.ArrayVar(cmd.Flags(), &filters, "filter", "", "only items that match: type=, id=, until=, inuse, description=")
	return cmd
}

// sortItems puts the largest first.
func sortItems(items []collect.Item) {
	slices.SortFunc(items, func(x, y collect.Item) int {
		return cmp.Or(cmp.Compare(y.Size, x.Size), strings.Compare(x.ID, y.ID))
	})
}

func printUsageJSON(w io.Writer, u *collect.Usage) error {
	enc := json.NewEncoder(w)
	for _, it := range u.Items {
		if err := enc.Encode(it); err != nil {
			return err
		}
	}
	return nil
}

// kindUse sums one kind up.
type kindUse struct {
	kind              string
	count             int
	size, reclaimable int64
}

func printUsage(w io.Writer, u *collect.Usage, verbose bool) error {
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	if verbose {
		fmt.Fprintln(tw, "ID\tTYPE\tRECLAIMABLE\tSIZE\tLAST USED\tDESCRIPTION")
		for _, it := range u.Items {
			printItem(tw, it, true)
		}
		fmt.Fprintln(tw)
	}
	kinds, reclaimable := sumKinds(u.Items)
	fmt.Fprintln(tw, "TYPE\tITEMS\tSIZE\tRECLAIMABLE")
	for _, k := range kinds {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\n", k.kind, k.count, size(k.size), size(k.reclaimable))
	}
	fmt.Fprintf(tw, "\nReclaimable:\t%s\nTotal:\t%s\n", size(reclaimable), size(u.Total))
	return tw.Flush()
}

func sumKinds(items []collect.Item) (kinds []*kindUse, reclaimable int64) {
	byKind := map[string]*kindUse{}
	for _, it := range items {
		k := byKind[it.Kind]
		if k == nil {
			k = &kindUse{kind: it.Kind}
			byKind[it.Kind] = k
			kinds = append(kinds, k)
		}
		k.count++
		k.size += it.Size
		if it.Reclaimable {
			k.reclaimable += it.Size
			reclaimable += it.Size
		}
	}
	slices.SortFunc(kinds, func(a, b *kindUse) int { return cmp.Compare(b.size, a.size) })
	return kinds, reclaimable
}

func printItem(w io.Writer, it collect.Item, withKind bool) {
	kind := ""
	if withKind {
		kind = it.Kind + "\t"
	}
	fmt.Fprintf(w, "%s\t%s%t\t%s\t%s\t%s\n", it.ID, kind, it.Reclaimable, size(it.Size), ago(it.LastUsed), firstLine(it.Description))
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:57], "") + "..."
	}
	return s
}

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 4) }
