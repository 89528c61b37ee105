package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/cmd/task"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/layout"
)

// shown runs fn as a task, which does something ("Pulling") to what, on a display and
// closes it.
func (a *app) shown(ctx context.Context, quiet bool, doing, what string, fn func(context.Context, *task.Task) error) error {
	mode := "quiet"
	if !quiet {
		mode = flags.ProgressMode(os.Getenv)
	}
	m, err := progress.ParseMode(mode)
	if err != nil {
		return mistake.New("%w", err)
	}
	d, err := progress.New(m, a.std.Err, doing)
	if err != nil {
		return mistake.New("%w", err)
	}
	return errors.Join(task.Run(ctx, d.Observe, strings.ToLower(doing)+" "+what, fn), d.Close())
}

func (a *app) pullCommand() *cobra.Command {
	var quiet, all bool
	var wanted []string
	reg := &flags.Registry{}
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] IMAGE",
		Short: "Fetch an image from a registry",
		Args:  exactArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := registry.ParseReference(args[0])
			if err != nil {
				return mistake.New("%w", err)
			}
			ps, err := flags.Platforms(wanted)
			if err != nil {
				return err
			}
			if all && len(ps) > 0 {
				return mistake.New("--platform and --all-platforms cannot be combined")
			}
			if !all && len(ps) == 0 {
				if ps, err = flags.PlatformsOrDefault(nil, os.Getenv); err != nil {
					return err
				}
			}
			if !all && len(ps) == 0 {
				ps = append(ps, binfmt.Local())
			}
			return a.withEngine(cmd.Context(), reg.Access(), func(e *engine.Engine) error {
				return a.pull(cmd.Context(), e, ref, ps, quiet)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the name only")
	flags.ArrayVar(cmd.Flags(), &wanted, "platform", "", "platforms of the image; a list or repeated (default: this machine's)")
	cmd.Flags().BoolVar(&all, "all-platforms", false, "all platforms that the image has")
	reg.Register(cmd.Flags())
	return cmd
}

// pull fetches an image for platforms; none means all.
func (a *app) pull(ctx context.Context, e *engine.Engine, ref registry.Reference, ps []ocispec.Platform, quiet bool) error {
	var desc *ocispec.Descriptor
	var only *registry.Image
	err := a.shown(ctx, quiet, "Pulling", ref.String(), func(ctx context.Context, t *task.Task) error {
		if len(ps) == 1 {
			img, err := e.Client.Pull(ctx, ref.String(), ps[0])
			if err == nil {
				desc, only = img.Manifest, img
			}
			return err
		}
		x, err := e.Client.PullIndex(ctx, ref.String(), ps)
		if err == nil {
			desc = x.Descriptor
		}
		return err
	})
	if err != nil {
		return err
	}
	if only != nil {
		a.warnPlatform(only, &ps[0])
	}
	if !quiet && desc != nil {
		fmt.Fprintf(a.std.Out, "Digest: %s\n", desc.Digest)
	}
	_, err = fmt.Fprintln(a.std.Out, ref.String())
	return err
}

func (a *app) pushCommand() *cobra.Command {
	var quiet bool
	platform, reg := &flags.Platform{}, &flags.Registry{}
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] IMAGE [NAME]",
		Short: "Send an image, for all of its platforms, to a registry, under its name or another one",
		Args:  rangeArgs(1, 2, "an image and perhaps another name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := registry.ParseReference(args[len(args)-1])
			if err != nil {
				return mistake.New("%w", err)
			}
			return a.withEngine(cmd.Context(), reg.Access(), func(e *engine.Engine) error {
				x, err := findAll(e, platform, args[0])
				if err != nil {
					return err
				}
				return a.push(cmd.Context(), e, x, ref, quiet)
			})
		},
	}
	platform.Register(cmd.Flags(), "the image for this platform alone (default: all)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digest only")
	reg.Register(cmd.Flags())
	return cmd
}

func (a *app) push(ctx context.Context, e *engine.Engine, x *registry.Index, ref registry.Reference, quiet bool) error {
	return a.shown(ctx, quiet, "Pushing", ref.String(), func(ctx context.Context, t *task.Task) error {
		var desc ocispec.Descriptor
		var err error
		if len(x.Images) == 1 {
			desc, err = e.Client.Push(ctx, ref.String(), x.Images[0], registry.PushOptions{})
		} else {
			desc, err = e.Client.PushIndex(ctx, ref.String(), x, registry.PushOptions{})
		}
		if err != nil {
			return err
		}
		if quiet {
			_, err = fmt.Fprintln(a.std.Out, desc.Digest)
		} else {
			_, err = fmt.Fprintf(a.std.Out, "%s: digest: %s size: %d\n", ref.Tag, desc.Digest, desc.Size)
		}
		return err
	})
}

func (a *app) saveCommand() *cobra.Command {
	var dest, format string
	platform := &flags.Platform{}
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE...",
		Short: "Write images to an archive (docker archive or OCI layout)",
		Args:  minArgs(1, "at least one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "docker" && format != "oci" {
				return mistake.New("--format %s: want docker or oci", format)
			}
			if dest == "" {
				if isTerminal(a.std.Out) {
					return mistake.New("an archive is not written to a terminal").WithHint("use -o FILE")
				}
				dest = "-"
			}
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return a.save(cmd.Context(), e, dest, format, platform, args)
			})
		},
	}
	platform.Register(cmd.Flags(), "the images for this platform alone (default: all)")
	cmd.Flags().StringVarP(&dest, "output", "o", "", "file to write (default stdout)")
	cmd.Flags().StringVar(&format, "format", "docker", "docker or oci")
	return cmd
}

func (a *app) save(ctx context.Context, e *engine.Engine, dest, format string, platform *flags.Platform, refs []string) error {
	items, err := saveItems(e, platform, refs)
	if err != nil {
		return err
	}
	for _, it := range items {
		if it.Index != nil && format == "docker" {
			return mistake.New("a docker archive holds an image for one platform, not for %d", len(it.Index.Images)).WithHint("choose one with --platform, or use --format oci")
		}
	}
	return a.disk().File(ctx, dest, func(w io.Writer) error {
		if format == "oci" {
			return layout.WriteOCI(ctx, w, e.Client, items...)
		}
		return layout.WriteDocker(ctx, w, e.Client, items...)
	})
}

// saveItems resolves images; names of the same image are put together.
func saveItems(e *engine.Engine, platform *flags.Platform, refs []string) ([]layout.Item, error) {
	var items []layout.Item
	at := map[string]int{}
	for _, r := range refs {
		x, err := findAll(e, platform, r)
		if err != nil {
			return nil, err
		}
		id := ""
		for _, img := range x.Images {
			id += img.ID.String()
		}
		i, ok := at[id]
		if !ok {
			i, at[id] = len(items), len(items)
			item := layout.Item{Image: x.Images[0]}
			if len(x.Images) > 1 {
				item = layout.Item{Index: x}
			}
			items = append(items, item)
		}
		if ref, err := registry.ParseReference(r); err == nil && slices.Contains(x.Images[0].Names, ref.String()) {
			items[i].Names = append(items[i].Names, ref.String())
		}
	}
	return items, nil
}

func (a *app) loadCommand() *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Read images from an archive or a folder (docker archive or OCI layout)",
		Args:  exactArgs(0, "no arguments (use -i FILE|DIR)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.load(cmd.Context(), input)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "file or folder to read (default stdin)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress (none is shown anyway)")
	return cmd
}

func (a *app) load(ctx context.Context, input string) error {
	read := func(c *registry.Client) ([]*registry.Image, error) { return layout.Load(ctx, a.std.In, c) }
	switch {
	case input != "" && input != "-":
		f, err := os.Open(input)
		if err != nil {
			return mistake.New("load: %w", err)
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return mistake.New("load: %w", err)
		}
		read = func(c *registry.Client) ([]*registry.Image, error) {
			if fi.IsDir() {
				return layout.LoadFolder(ctx, input, c)
			}
			return layout.Load(ctx, f, c)
		}
	case isTerminal(a.std.In):
		return mistake.New("load reads an archive from stdin").WithHint("use -i FILE")
	}
	return a.withEngine(ctx, engine.Access{}, func(e *engine.Engine) error {
		imgs, err := read(e.Client)
		if err != nil {
			return err
		}
		for _, img := range imgs {
			if len(img.Names) == 0 {
				fmt.Fprintln(a.std.Out, "Loaded image ID: "+img.ID.String())
			}
			for _, n := range img.Names {
				fmt.Fprintln(a.std.Out, "Loaded image: "+strings.TrimPrefix(n, "docker.io/library/"))
			}
		}
		return nil
	})
}

// disk takes files where commands write them.
func (a *app) disk() export.Disk { return export.Disk{Stdout: a.std.Out} }
