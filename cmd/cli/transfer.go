package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
)

// shown runs fn as a task on a display and closes it.
func (a *app) shown(mode, name string, fn func(*task) error) error {
	m, err := progress.ParseMode(mode)
	if err != nil {
		return usagef("%w", err)
	}
	d, err := progress.New(m, a.std.Err)
	if err != nil {
		return usagef("%w", err)
	}
	t := &task{name: name, obs: d.Observe}
	t.emit(executor.Event{Type: executor.EventStarted})
	if err = fn(t); err != nil {
		t.emit(executor.Event{Type: executor.EventFailed, Err: err})
	} else {
		t.emit(executor.Event{Type: executor.EventDone})
	}
	return errors.Join(err, d.Close())
}

func quietMode(quiet bool) string {
	if quiet {
		return "quiet"
	}
	return (&buildFlags{}).progressMode()
}

func (a *app) pullCommand() *cobra.Command {
	var quiet bool
	var platform string
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] IMAGE",
		Short: "Fetch an image from a registry",
		Args:  exactArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := registry.ParseReference(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			if platform != "" {
				if _, err := parsePlatforms([]string{platform}); err != nil {
					return err
				}
			}
			return a.withEngine(func(e *engine) error {
				return a.pull(cmd.Context(), e, ref, quiet)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the name only")
	cmd.Flags().StringVar(&platform, "platform", "", "platform of the image; only this machine's")
	a.reg.register(cmd.Flags())
	return cmd
}

func (a *app) pull(ctx context.Context, e *engine, ref registry.Reference, quiet bool) error {
	var img *registry.Image
	err := a.shown(quietMode(quiet), "pulling "+ref.String(), func(t *task) error {
		var err error
		img, err = e.client.Pull(ctx, ref.String(), machine(), t.transfer)
		return err
	})
	if err != nil {
		return err
	}
	if !quiet && img.Manifest != nil {
		fmt.Fprintf(a.std.Out, "Digest: %s\n", img.Manifest.Digest)
	}
	_, err = fmt.Fprintln(a.std.Out, ref.String())
	return err
}

func (a *app) pushCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] IMAGE [NAME]",
		Short: "Send an image to a registry, under its name or another one",
		Args:  rangeArgs(1, 2, "an image and perhaps another name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := registry.ParseReference(args[len(args)-1])
			if err != nil {
				return usagef("%w", err)
			}
			return a.withEngine(func(e *engine) error {
				img, err := e.images.ResolveLocal(args[0])
				if err != nil {
					return err
				}
				return a.push(cmd.Context(), e, img, ref, quiet)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digest only")
	a.reg.register(cmd.Flags())
	return cmd
}

func (a *app) push(ctx context.Context, e *engine, img *registry.Image, ref registry.Reference, quiet bool) error {
	return a.shown(quietMode(quiet), "pushing "+ref.String(), func(t *task) error {
		desc, err := e.client.Push(ctx, ref.String(), img, registry.PushOptions{Progress: t.transfer})
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
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE...",
		Short: "Write images to an archive (docker archive or OCI layout)",
		Args:  minArgs(1, "at least one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "docker" && format != "oci" {
				return usagef("--format %s: want docker or oci", format)
			}
			if dest == "" {
				if isTerminal(a.std.Out) {
					return usagef("an archive is not written to a terminal").hint("use -o FILE")
				}
				dest = "-"
			}
			return a.withEngine(func(e *engine) error {
				return a.save(cmd.Context(), e, dest, format, args)
			})
		},
	}
	cmd.Flags().StringVarP(&dest, "output", "o", "", "file to write (default stdout)")
	cmd.Flags().StringVar(&format, "format", "docker", "docker or oci")
	return cmd
}

func (a *app) save(ctx context.Context, e *engine, dest, format string, refs []string) error {
	items, err := e.saveItems(refs)
	if err != nil {
		return err
	}
	return toFile(dest, a.std.Out, func(w io.Writer) error {
		if format == "oci" {
			return export.WriteOCI(ctx, w, e.client, items...)
		}
		return export.WriteDocker(ctx, w, e.client, items...)
	})
}

// saveItems resolves images; names of the same image are put together.
func (e *engine) saveItems(refs []string) ([]export.Item, error) {
	var items []export.Item
	at := map[string]int{}
	for _, r := range refs {
		img, err := e.images.ResolveLocal(r)
		if err != nil {
			return nil, err
		}
		id := img.ID.String()
		i, ok := at[id]
		if !ok {
			i, at[id] = len(items), len(items)
			items = append(items, export.Item{Image: img})
		}
		if ref, err := registry.ParseReference(r); err == nil && contains(img.Names, ref.String()) {
			items[i].Names = append(items[i].Names, ref.String())
		}
	}
	return items, nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func (a *app) loadCommand() *cobra.Command {
	var input string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Read images from an archive (docker archive or OCI layout)",
		Args:  exactArgs(0, "no arguments (use -i FILE)"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.load(cmd.Context(), input)
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "file to read (default stdin)")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress (none is shown anyway)")
	return cmd
}

func (a *app) load(ctx context.Context, input string) (err error) {
	in := a.std.In
	if input != "" && input != "-" {
		f, err := os.Open(input)
		if err != nil {
			return usagef("load: %w", err)
		}
		defer f.Close()
		in = f
	} else if isTerminal(in) {
		return usagef("load reads an archive from stdin").hint("use -i FILE")
	}
	return a.withEngine(func(e *engine) error {
		imgs, err := export.Load(ctx, in, e.client)
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
