package caches

import (
	"cmp"
	"fmt"
	"text/tabwriter"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

func (p Program) show() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "show [OPTIONS] KEY|STEP",
		Short: "Show records: their layers, and what went into their keys",
		Args:  exactly(1, "the beginning of a key, or a part of a step's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				rows, err := p.rows(cmd.Context(), e, from)
				if err != nil {
					return err
				}
				if rows, err = named(rows, args); err != nil {
					return err
				}
				for i, r := range rows {
					if i > 0 {
						fmt.Fprintln(p.Out)
					}
					if err := p.showRow(r); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", fromUsage)
	return cmd
}

func (p Program) showRow(r row) error {
	tw := tabwriter.NewWriter(p.Out, 0, 8, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s:\t%s\n", name, value)
		}
	}
	line("Key", string(r.Key))
	if r.Definition != r.Key {
		line("Definition", string(r.Definition))
	}
	line("Step", r.Step)
	line("Scope", r.Scope)
	line("Signed with", r.Signer)
	line("Created", r.Created.UTC().Format(time.RFC3339))
	line("Last used", r.LastUsed.UTC().Format(time.RFC3339))
	line("Took", r.Duration.Round(time.Millisecond).String())
	line("Size", units.HumanSize(float64(r.Size)))
	for _, l := range r.Layers {
		line("Layer", fmt.Sprintf("%s %s %s", l.DiffID, units.HumanSize(float64(l.Size)), l.Blob))
	}
	for _, part := range r.Parts {
		line("Part", part.Name+" "+cmp.Or(part.Value, "(its value is on the machine that made it)"))
	}
	return tw.Flush()
}

func (p Program) remove() *cobra.Command {
	var from string
	var all bool
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] KEY|STEP...",
		Short: "Remove records, of this machine or of a shared cache",
		Args: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) != all {
				return mistake.New("%s needs keys or parts of steps' names, or --all", cmd.CommandPath()).WithHint("usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				rows, err := p.rows(cmd.Context(), e, from)
				if err != nil {
					return err
				}
				if !all {
					if rows, err = named(rows, args); err != nil {
						return err
					}
				}
				byScope := map[string][]cache.Key{}
				for _, r := range rows {
					byScope[r.Scope] = append(byScope[r.Scope], r.Key)
				}
				var src shared.Source
				if from != "" {
					if src, err = p.open(e, "--from", from); err != nil {
						return err
					}
				}
				for scope, keys := range byScope {
					if from == "" {
						err = removeLocal(e, keys)
					} else {
						_, err = shared.Remove(cmd.Context(), src.Backend, scope, keys)
					}
					if err != nil {
						return err
					}
				}
				for _, r := range rows {
					fmt.Fprintf(p.Out, "removed %s %s\n", short(r.Key), oneLine(r.Step))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", fromUsage)
	cmd.Flags().BoolVar(&all, "all", false, "all records")
	return cmd
}

func removeLocal(e *engine.Engine, keys []cache.Key) error {
	for _, k := range keys {
		if err := e.Cache.Remove(k); err != nil {
			return err
		}
	}
	return nil
}
