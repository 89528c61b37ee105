package caches

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/parser/mistake"
)

// mounts is `builder cache mounts`.
func (p Program) mounts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mounts",
		Short: "Look after cache mounts (RUN --mount=type=cache), here and in shared caches",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return mistake.New("unknown command %q of %s", args[0], cmd.CommandPath()).WithHint("`%s --help` lists them", cmd.CommandPath())
			}
			return nil
		},
		RunE:        func(cmd *cobra.Command, args []string) error { return cmd.Help() },
		Annotations: p.Outside,
	}
	cmd.AddCommand(p.listMounts(), p.exportMounts(), p.importMounts(), p.removeMounts())
	return cmd
}

// mountRow is a cache mount, or the content of one in a shared cache, as it is shown.
type mountRow struct {
	ID       string
	Variant  string `json:",omitempty"`
	Platform string `json:",omitempty"` // of a content
	Key      string `json:",omitempty"` // of a content
	Scope    string `json:",omitempty"` // of a content
	Files    int64
	Size     int64 // bytes: on disk, or of a content those of its files
	LastUsed time.Time
	InUse    bool
}

func (p Program) listMounts() *cobra.Command {
	var from, format string
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS]",
		Short: "List the cache mounts of this machine, or their contents in a shared cache",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && format != "table" && format != "json" {
				return mistake.Unsupported("--format "+format, "use json")
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				rows, err := p.mountRows(cmd.Context(), e, from)
				if err != nil {
					return err
				}
				if format == "json" {
					enc := json.NewEncoder(p.Out)
					for _, r := range rows {
						if err := enc.Encode(r); err != nil {
							return err
						}
					}
					return nil
				}
				return p.printMounts(rows, from != "")
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "a shared cache, as --cache-from takes it (default: this machine)")
	cmd.Flags().StringVar(&format, "format", "", "json: one object a line")
	return cmd
}

// mountRows are the mounts of this machine, or what a place has of them.
func (p Program) mountRows(ctx context.Context, e *engine.Engine, from string) ([]mountRow, error) {
	var rows []mountRow
	if from == "" {
		all, err := cachemount.List(e.Root())
		for _, m := range all {
			files, bytes, err := m.Usage()
			if err != nil {
				return nil, err
			}
			rows = append(rows, mountRow{ID: nameOf(m), Variant: m.Variant, Files: files, Size: bytes, LastUsed: m.LastUsed, InUse: m.InUse})
		}
		slices.SortFunc(rows, func(a, b mountRow) int { return b.LastUsed.Compare(a.LastUsed) })
		return rows, err
	}
	_, found, err := p.foundMounts(ctx, e, from)
	for _, m := range found {
		rows = append(rows, mountRow{
			ID: m.ID, Variant: m.Variant, Platform: m.Platform, Key: m.Key, Scope: m.Scope,
			Files: m.Files, Size: m.Size, LastUsed: m.LastUsed(),
		})
	}
	return rows, err
}

// nameOf is the id of a mount, or its folder if the id is not known.
func nameOf(m cachemount.Mount) string { return cmp.Or(m.ID, m.Folder()) }

// foundMounts are the contents that a place has, which must be readable.
func (p Program) foundMounts(ctx context.Context, e *engine.Engine, from string) (*shared.Session, []*shared.FoundMount, error) {
	src, err := p.open(e, "--from", from)
	if err != nil {
		return nil, nil, err
	}
	src.Strict = true
	s := shared.New(shared.Options{Local: e.Cache, Store: e.Store, From: []shared.Source{src}, Tell: p.tell})
	found, err := s.AllMounts(ctx)
	return s, found, err
}

func (p Program) printMounts(rows []mountRow, contents bool) error {
	tw := tabwriter.NewWriter(p.Out, 0, 8, 3, ' ', 0)
	if contents {
		fmt.Fprintln(tw, "ID\tPLATFORM\tKEY\tFILES\tSIZE\tLAST USED\tSCOPE")
	} else {
		fmt.Fprintln(tw, "ID\tFILES\tSIZE\tLAST USED\tIN USE")
	}
	for _, r := range rows {
		files, size := fmt.Sprint(r.Files), units.HumanSize(float64(r.Size))
		if contents {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", oneLine(r.ID), r.Platform, cmp.Or(r.Key[:min(12, len(r.Key))], "-"),
				files, size, r.LastUsed.UTC().Format(time.DateOnly), cmp.Or(r.Scope, "-"))
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%t\n", oneLine(r.ID), files, size, ago(r.LastUsed), r.InUse)
	}
	return tw.Flush()
}

func (p Program) removeMounts() *cobra.Command {
	var from string
	var all bool
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] [ID...]",
		Short: "Remove cache mounts of this machine, or their contents from a shared cache",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return mistake.New("%s needs ids or --all", cmd.CommandPath()).WithHint("`builder cache mounts ls` lists them")
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				if from != "" {
					return p.forgetMounts(cmd.Context(), e, from, shared.Select{All: all, IDs: args})
				}
				return p.removeLocalMounts(e, args)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "a shared cache, as --cache-to takes it (default: this machine)")
	cmd.Flags().BoolVar(&all, "all", false, "all cache mounts")
	return cmd
}

// removeLocalMounts removes the mounts with some ids, or all. One that is not there, or is in
// use, is a mistake; the others are removed.
func (p Program) removeLocalMounts(e *engine.Engine, ids []string) error {
	all, err := cachemount.List(e.Root())
	if err != nil {
		return err
	}
	left := slices.Clone(ids)
	var used []string
	for _, m := range all {
		if len(ids) > 0 && !slices.Contains(ids, nameOf(m)) {
			continue
		}
		left = slices.DeleteFunc(left, func(id string) bool { return id == nameOf(m) })
		switch ok, err := m.Remove(); {
		case err != nil:
			return err
		case !ok:
			used = append(used, nameOf(m))
		default:
			fmt.Fprintln(p.Out, nameOf(m))
		}
	}
	if len(left) > 0 {
		return mistake.New("there is no cache mount %q", left[0]).WithHint("`builder cache mounts ls` lists them")
	}
	if len(used) > 0 {
		return mistake.New("cache mount %q is in use", used[0])
	}
	return nil
}

// forgetMounts removes contents from a place. One that is not there is a mistake.
func (p Program) forgetMounts(ctx context.Context, e *engine.Engine, place string, which shared.Select) error {
	t, err := p.target(e, "--from", place)
	if err != nil {
		return err
	}
	t.Forget = which
	s := shared.New(shared.Options{
		Local: e.Cache, Store: e.Store, Tell: p.tell, To: []shared.Target{t},
		From: []shared.Source{{Backend: t.Backend, From: shared.From{Scopes: []string{t.Scope}, Mounts: which, Strict: true}}},
	})
	found, err := s.AllMounts(ctx)
	if err != nil {
		return err
	}
	for _, id := range which.IDs {
		if !slices.ContainsFunc(found, func(m *shared.FoundMount) bool { return m.ID == id }) {
			return mistake.New("%s has no cache mount %q", t, id).WithHint("`builder cache mounts ls --from …` lists them")
		}
	}
	if err := s.Finish(ctx, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Out, "%d contents removed\n", len(found))
	return err
}
