package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/containerd/platforms"
	units "github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

func (a *app) imagesCommand() *cobra.Command {
	var all, quiet, noTrunc bool
	var format string
	cmd := &cobra.Command{
		Use:   "images [OPTIONS] [NAME]",
		Short: "List images",
		Args:  rangeArgs(0, 1, "at most one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				rows, err := listImages(e, all, args)
				if err != nil {
					return err
				}
				return printImages(a.std.Out, rows, quiet, noTrunc, format == "json")
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also images without a name")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "ids only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "whole ids")
	cmd.Flags().StringVar(&format, "format", "", "json: one object a line")
	return cmd
}

func checkFormat(format string) error {
	switch format {
	case "", "table", "json":
		return nil
	}
	return mistake.Unsupported("--format "+format, "use json")
}

// imageRow is one line of `builder images`.
type imageRow struct {
	Repository string
	Tag        string
	ID         digest.Digest
	CreatedAt  time.Time
	Size       int64         // bytes, uncompressed
	Digest     digest.Digest `json:",omitempty"`
	Platform   string
}

// listImages returns a row for every name; images without one are included on
// request.
func listImages(e *engine.Engine, all bool, filter []string) ([]imageRow, error) {
	infos, err := e.Images.List()
	if err != nil {
		return nil, err
	}
	var rows []imageRow
	for _, info := range infos {
		row := imageRow{
			Repository: "<none>", Tag: "<none>", ID: info.ID, CreatedAt: info.Created, Size: info.Size,
			Platform: platforms.Format(info.Platform),
		}
		if info.Manifest != nil {
			row.Digest = info.Manifest.Digest
		}
		if len(info.Names) == 0 && all && len(filter) == 0 {
			rows = append(rows, row)
		}
		for _, n := range info.Names {
			ref, err := registry.ParseReference(n)
			if err != nil || !matchesName(ref, filter) {
				continue
			}
			row.Repository, row.Tag = splitFamiliar(ref)
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func matchesName(ref registry.Reference, filter []string) bool {
	if len(filter) == 0 {
		return true
	}
	want, err := registry.ParseReference(filter[0])
	if err != nil {
		return false
	}
	last := filter[0][strings.LastIndex(filter[0], "/")+1:] // before it, ":" begins a port
	return want.Repository() == ref.Repository() && (!strings.Contains(last, ":") || want.Tag == ref.Tag)
}

func splitFamiliar(ref registry.Reference) (repo, tag string) {
	short := registry.Reference{Domain: ref.Domain, Path: ref.Path}
	tag = ref.Tag
	if tag == "" {
		tag = "<none>"
	}
	return short.Familiar(), tag
}

func printImages(w io.Writer, rows []imageRow, quiet, noTrunc, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	if quiet {
		seen := map[digest.Digest]bool{}
		for _, r := range rows {
			if !seen[r.ID] {
				seen[r.ID] = true
				if _, err := fmt.Fprintln(w, shortID(r.ID.String(), noTrunc)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	fmt.Fprintln(tw, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE")
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Repository, r.Tag, shortID(r.ID.String(), noTrunc), ago(r.CreatedAt), units.HumanSizeWithPrecision(float64(r.Size), 3))
	}
	return tw.Flush()
}

// shortID is the first 12 digits of an id, as docker prints it.
func shortID(id string, whole bool) string {
	if whole {
		return id
	}
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 && !strings.HasPrefix(id, "<") {
		return id[:12]
	}
	return id
}

// ago says how long ago something was, as docker does.
func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}

func (a *app) tagCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "tag IMAGE|STEP NAME",
		Short: "Give an image another name",
		Args:  exactArgs(2, "an image and a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error { return e.Images.Tag(cmd.Context(), args[0], args[1]) })
		},
	}
}

func (a *app) rmiCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE...",
		Short: "Remove names of images, and images with their last name",
		Args:  minArgs(1, "at least one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				var errs []error
				for _, ref := range args {
					removed, err := e.Images.Remove(ref, force)
					if err != nil {
						errs = append(errs, err)
						continue
					}
					for _, n := range removed.Untagged {
						fmt.Fprintln(a.std.Out, "Untagged: "+n)
					}
					for _, id := range removed.Deleted {
						fmt.Fprintln(a.std.Out, "Deleted: "+id.String())
					}
				}
				return errors.Join(errs...)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "remove an image that has several names")
	return cmd
}
