package caches

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cache/disk"
	"layered.build/builder/cache/oci"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

func (p Program) export() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] DEST",
		Short: "Write the cache as an OCI layout: a folder, or with .tar at its end a tar",
		Args:  exactly(1, "a folder or a file .tar"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return toLayout(args[0], func(dir string) error {
					place, err := oci.OpenFolder(dir, true)
					if err != nil {
						return err
					}
					if from == "" {
						return p.exportLocal(cmd.Context(), e, place)
					}
					c, err := p.read(cmd.Context(), e, from)
					if err != nil {
						return err
					}
					n, err := c.CopyTo(cmd.Context(), place, p.report)
					if err != nil {
						return err
					}
					return p.carried(n)
				})
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", fromUsage)
	return cmd
}

// toLayout has fn write a folder, and makes a tar of it if that was asked for.
func toLayout(dest string, fn func(dir string) error) (err error) {
	if filepath.Ext(dest) != ".tar" {
		return fn(dest)
	}
	dir, err := os.MkdirTemp(filepath.Dir(dest), ".builder-cache-*")
	if err != nil {
		return mistake.New("%w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := fn(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "tar-*")
	if err != nil {
		return err
	}
	if err := errors.Join(oci.WriteTar(f, dir), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), dest)
}

// exportLocal writes all records of this machine whose layers are here.
func (p Program) exportLocal(ctx context.Context, e *engine.Engine, to shared.Backend) error {
	o := build.SessionOptions(e, build.Caches{To: []shared.Target{{Backend: to, To: shared.To{Mode: shared.ModeMax, Strict: true}}}})
	o.Tell = p.tell
	s := shared.New(o)
	n := shared.Transferred{}
	err := e.Cache.List(ctx, func(en disk.Entry) error {
		if en.Err != nil {
			return nil
		}
		for _, stack := range en.Record.Outputs {
			for i := range stack {
				if _, ok := e.Store.Known(stack[:i+1].ChainID()); !ok {
					n.Left++
					return nil
				}
			}
		}
		s.Use(en.Key, en.Record)
		n.Records++
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.Finish(ctx, nil); err != nil {
		return err
	}
	return p.carried(n)
}

func (p Program) tell(text string) { fmt.Fprintf(p.Err, "WARN: %s\n", text) }

func (p Program) carried(n shared.Transferred) error {
	text := fmt.Sprintf("%d records", n.Records)
	if n.Mounts > 0 {
		text += fmt.Sprintf(", %d cache mounts", n.Mounts)
	}
	if n.Bytes > 0 {
		text += ", " + units.HumanSize(float64(n.Bytes)) + " sent"
	}
	if n.Left > 0 {
		text += fmt.Sprintf(", %d left out", n.Left)
	}
	if n.Baseless > 0 {
		p.tell(fmt.Sprintf("%d entries are on layers of base images that this machine has not: pull or load the images, and import again", n.Baseless))
	}
	_, err := fmt.Fprintln(p.Out, text)
	return err
}

func (p Program) importing() *cobra.Command {
	var to string
	var keys, scopes []string
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] SOURCE",
		Short: "Read what export has written (a folder, a tar, - for a tar on stdin), and verify it",
		Args:  exactly(1, "a folder, a tar or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			verify, err := sign.ReadKeys(keys, p.Getenv)
			if err != nil {
				return err
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return p.fromLayout(args[0], func(place *oci.Local) error {
					src := shared.Source{Backend: place, From: shared.From{Scopes: scopes, Strict: true, Verify: verify}}
					n, err := p.bring(cmd.Context(), e, src, to)
					if err != nil {
						return err
					}
					return p.carried(n)
				})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "a shared cache, as --cache-from takes it (default: the cache of this machine)")
	cmd.Flags().StringArrayVar(&keys, "verify-key", nil, "only what this key has signed; may be repeated")
	cmd.Flags().StringArrayVar(&scopes, "scope", nil, "only this scope; may be repeated")
	return cmd
}

// bring carries what a folder holds to a shared cache or to this machine.
func (p Program) bring(ctx context.Context, e *engine.Engine, src shared.Source, to string) (shared.Transferred, error) {
	c, err := contents(ctx, src)
	if err != nil {
		return shared.Transferred{}, err
	}
	if to != "" {
		dest, err := p.open(e, "--to", to)
		if err != nil {
			return shared.Transferred{}, err
		}
		return c.CopyTo(ctx, dest.Backend, p.report)
	}
	src.Scopes = c.Scopes()
	o := build.SessionOptions(e, build.Caches{From: []shared.Source{src}})
	o.Tell = p.tell
	return shared.New(o).Import(ctx, e.Store)
}

// fromLayout opens a folder, or what a tar holds.
func (p Program) fromLayout(source string, fn func(*oci.Local) error) (err error) {
	fi, err := os.Stat(source)
	if source != "-" && err != nil {
		return mistake.New("%w", err)
	}
	dir := source
	if source == "-" || !fi.IsDir() {
		var in io.Reader = p.In
		if source != "-" {
			f, err := os.Open(source)
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		if dir, err = os.MkdirTemp("", "builder-cache-*"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if err := oci.ReadTar(in, dir); err != nil {
			return mistake.New("%w", err)
		}
	}
	place, err := oci.OpenFolder(dir, false)
	if err != nil {
		return err
	}
	return fn(place)
}
