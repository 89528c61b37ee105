package caches

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cache"
	"layered.build/builder/cache/disk"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

// row is a record, of this machine or of a shared cache, as it is shown.
type row struct {
	Key        cache.Key
	Definition cache.Key
	Step       string `json:",omitempty"` // "" where this machine does not know it
	Project    string `json:",omitempty"`
	Scope      string `json:",omitempty"`
	Signer     string `json:",omitempty"`
	Created    time.Time
	LastUsed   time.Time     // of others', the day
	Duration   time.Duration // ns
	Size       int64         // bytes: of this machine's, the layers' tars; of others', the compressed layers
	Layers     []layer
	Parts      []cache.Part `json:",omitempty"`
}

type layer struct {
	DiffID string
	Blob   string `json:",omitempty"`
	Size   int64
}

func (p Program) list() *cobra.Command {
	var from, format string
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS]",
		Short: "List the records of the cache, those that were used last first",
		Args:  exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && format != "table" && format != "json" {
				return mistake.Unsupported("--format "+format, "use json")
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				rows, err := p.rows(cmd.Context(), e, from)
				if err != nil {
					return err
				}
				if format == "json" {
					return p.printJSON(rows)
				}
				return p.printRows(rows)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", fromUsage)
	cmd.Flags().StringVar(&format, "format", "", "json: one object a line")
	return cmd
}

// rows are all records of a place, or of this machine.
func (p Program) rows(ctx context.Context, e *engine.Engine, from string) ([]row, error) {
	local, err := localRows(ctx, e)
	if err != nil || from == "" {
		return local, err
	}
	c, err := p.read(ctx, e, from)
	if err != nil {
		return nil, err
	}
	steps := map[cache.Key]string{}
	for _, r := range local {
		steps[r.Key] = r.Step
	}
	var rows []row
	for _, en := range c.Entries() {
		rows = append(rows, rowOf(en, cmp.Or(steps[en.Key], steps[en.Definition])))
	}
	return rows, nil
}

func rowOf(e shared.Entry, step string) row {
	r := row{
		Key: e.Key, Definition: e.Definition, Step: step, Scope: e.Scope, Signer: e.Signer,
		Created: e.Created, LastUsed: e.Used, Duration: e.Duration, Size: e.Size,
	}
	for _, l := range e.Layers {
		out := layer{DiffID: string(l.DiffID)}
		if l.Blob != nil {
			out.Blob, out.Size = string(l.Blob.Digest), l.Blob.Size
		}
		r.Layers = append(r.Layers, out)
	}
	for _, name := range e.Parts {
		r.Parts = append(r.Parts, cache.Part{Name: name})
	}
	return r
}

// localRows are the records of this machine. Damaged ones are left out: verify tells them.
func localRows(ctx context.Context, e *engine.Engine) ([]row, error) {
	var rows []row
	err := e.Cache.List(ctx, func(en disk.Entry) error {
		if en.Err != nil {
			return nil
		}
		rec := en.Record
		r := row{
			Key: en.Key, Definition: rec.Definition, Step: rec.Step, Project: rec.Project,
			Created: rec.Created, LastUsed: en.LastUsed, Duration: rec.Duration, Parts: rec.Parts,
		}
		for _, stack := range rec.Outputs {
			for _, l := range stack {
				r.Layers = append(r.Layers, layer{DiffID: string(l.DiffID), Size: l.Size})
				r.Size += l.Size
			}
		}
		rows = append(rows, r)
		return nil
	})
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(b.LastUsed.Compare(a.LastUsed), cmp.Compare(a.Key, b.Key))
	})
	return rows, err
}

func (p Program) printJSON(rows []row) error {
	enc := json.NewEncoder(p.Out)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func (p Program) printRows(rows []row) error {
	tw := tabwriter.NewWriter(p.Out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, "KEY\tSTEP\tCREATED\tLAST USED\tSIZE\tSCOPE")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", short(r.Key), cmp.Or(oneLine(r.Step), "-"),
			ago(r.Created), r.lastUsed(), units.HumanSize(float64(r.Size)), cmp.Or(r.Scope, "-"))
	}
	return tw.Flush()
}

func (r row) lastUsed() string {
	if r.LastUsed.Equal(r.LastUsed.Truncate(24 * time.Hour)) { // only the day is known
		return r.LastUsed.UTC().Format(time.DateOnly)
	}
	return ago(r.LastUsed)
}

// short are the first 12 digits of a key.
func short(k cache.Key) string {
	h := strings.TrimPrefix(string(k), "sha256:")
	return h[:min(12, len(h))]
}

// oneLine is the beginning of a step's name.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return s
}

func ago(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }

// matching are the records that an argument names: the beginning of a key, or a step as it is
// shown, or a part of that.
func matching(rows []row, arg string) []row {
	digits := strings.TrimPrefix(arg, "sha256:")
	byKey := slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
		return len(digits) < 4 || !strings.HasPrefix(strings.TrimPrefix(string(r.Key), "sha256:"), digits)
	})
	if len(byKey) > 0 {
		return byKey
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !strings.Contains(r.Step, arg) })
}

// named is matching for several arguments; one that names nothing is a mistake.
func named(rows []row, args []string) ([]row, error) {
	var out []row
	for _, arg := range args {
		found := matching(rows, arg)
		if len(found) == 0 {
			return nil, mistake.New("no record has a key or a step %q", arg).WithHint("`builder cache ls` lists them")
		}
		out = append(out, found...)
	}
	return out, nil
}
