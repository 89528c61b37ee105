// Package why holds the command `builder why`, which explains a build that was done.
package why

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"layered.build/builder/cache"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/builds"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// Program is what the command needs of the program that it is part of.
type Program struct {
	Out io.Writer
	// WithStore runs fn on the store, which must be there, and which it opens and closes.
	WithStore func(ctx context.Context, access engine.Access, fn func(*engine.Engine) error) error
}

// request is what is asked for.
type request struct {
	image, id, step string
	json            bool
}

// Command is `builder why`.
func Command(p Program) *cobra.Command {
	var r request
	var format string
	cmd := &cobra.Command{
		Use:   "why [OPTIONS] [STEP]",
		Short: "Explain which steps of the last build ran, and why",
		Long: `Explain the last build of this store: of each step that ran why it did, what of its
cache key differs from which earlier result, and how long it took. STEP is one step, in
detail: its number in the list, STAGE:LINE or :LINE of the Dockerfile, or a part of its text.`,
		Example: "  builder why\n  builder why 3\n  builder why build:12\n  builder why 'RUN make'\n  builder why --image app:latest",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return mistake.New("%s takes one step, got %d arguments", cmd.CommandPath(), len(args)).WithHint("usage: %s", cmd.UseLine())
			}
			if format != "" && format != "json" {
				return mistake.New("--format %q is not supported", format).WithHint("use json")
			}
			if r.json = format == "json"; len(args) == 1 {
				r.step = args[0]
			}
			return p.WithStore(cmd.Context(), engine.Access{}, func(e *engine.Engine) error { return p.run(cmd.Context(), e, r) })
		},
	}
	cmd.Flags().StringVar(&r.image, "image", "", "the last build that made an image of this name")
	cmd.Flags().StringVar(&r.id, "iid", "", "the last build that made the image with this id, as --iidfile has it; its beginning will do")
	cmd.Flags().StringVar(&format, "format", "", "json: the build or the step as an object")
	return cmd
}

func (p Program) run(ctx context.Context, e *engine.Engine, r request) error {
	b, err := find(e, r)
	if err != nil {
		return err
	}
	var one *builds.Step
	if r.step != "" {
		if one, err = findStep(b, r.step); err != nil {
			return err
		}
	}
	if r.json {
		enc := json.NewEncoder(p.Out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if one != nil {
			return enc.Encode(one)
		}
		return enc.Encode(b)
	}
	if one == nil {
		return printBuild(p.Out, b)
	}
	rec, err := recordOf(ctx, e, one)
	if err != nil {
		return err
	}
	return printStep(p.Out, b, one, rec)
}

// find finds the build that is asked for.
func find(e *engine.Engine, r request) (*builds.Build, error) {
	fits := func(*builds.Build) bool { return true }
	what := "no build is remembered in this store"
	switch {
	case r.image != "":
		ref, err := registry.ParseReference(r.image)
		if err != nil {
			return nil, err
		}
		what = "no build that is remembered made " + ref.String()
		fits = func(b *builds.Build) bool {
			return slices.ContainsFunc(b.Names, func(n string) bool { return sameName(n, ref) })
		}
	case r.id != "":
		hex := strings.TrimPrefix(strings.TrimSpace(r.id), "sha256:")
		what = "no build that is remembered made the image " + r.id
		fits = func(b *builds.Build) bool {
			return slices.ContainsFunc(b.Images, func(d digest.Digest) bool { return strings.HasPrefix(d.Encoded(), hex) })
		}
	}
	b, err := e.Builds().Find(fits)
	if err == nil && b == nil {
		return nil, mistake.New("%s", what).WithHint("the last 50 builds are, until `builder prune -a`")
	}
	return b, err
}

func sameName(name string, ref registry.Reference) bool {
	other, err := registry.ParseReference(name)
	return err == nil && other.String() == ref.String()
}

// findStep finds a step by its number, its place or its text.
func findStep(b *builds.Build, asked string) (*builds.Step, error) {
	if n, err := strconv.Atoi(asked); err == nil {
		if n < 1 || n > len(b.Steps) {
			return nil, mistake.New("the build has no step %d", n).WithHint("it has the steps 1 to %d", len(b.Steps))
		}
		return &b.Steps[n-1], nil
	}
	var found []int
	stage, at, ok := strings.Cut(asked, ":")
	if line, err := strconv.Atoi(at); ok && err == nil {
		for i, s := range b.Steps {
			if s.Start <= line && line <= s.End && (stage == "" || strings.EqualFold(stage, s.Stage)) {
				found = append(found, i)
			}
		}
	}
	for i, s := range b.Steps {
		if len(found) == 0 && s.Name == asked {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		for i, s := range b.Steps {
			if strings.Contains(strings.ToLower(s.Name), strings.ToLower(asked)) {
				found = append(found, i)
			}
		}
	}
	switch {
	case len(found) == 1:
		return &b.Steps[found[0]], nil
	case len(found) == 0:
		return nil, mistake.New("the build has no step %q", asked).WithHint("`builder why` lists its steps")
	}
	var list []string
	for _, i := range found {
		list = append(list, strconv.Itoa(i+1)+" "+b.Steps[i].Name)
	}
	return nil, mistake.New("%q may be one of %d steps", asked, len(found)).WithHint("name one by its number:\n%s", strings.Join(list, "\n"))
}

// recordOf is the record that the step used or made, nil if it is not there any more.
func recordOf(ctx context.Context, e *engine.Engine, s *builds.Step) (*cache.Record, error) {
	if s.Key == "" {
		return nil, nil
	}
	rec, err := e.Cache.Peek(ctx, s.Key)
	if errors.Is(err, cache.ErrMiss) {
		return nil, nil
	}
	return rec, err
}
