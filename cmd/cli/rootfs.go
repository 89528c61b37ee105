package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/containers"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/tree"
)

// importFlags are the flags of `builder import`.
type importFlags struct {
	changes  []string
	message  string
	platform string
}

func (a *app) importCommand() *cobra.Command {
	f := &importFlags{}
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] FILE|- [NAME]",
		Short: "Make an image of a file system's tar",
		Long: `Make an image with one layer of a tar of a file system, plain or compressed (gzip,
bzip2, zstd), as docker import does.`,
		Args: rangeArgs(1, 2, "a file and perhaps a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.importTar(cmd.Context(), f, args)
		},
	}
	flags.ArrayVar(cmd.Flags(), &f.changes, "change", "c", "Dockerfile instruction that sets the configuration; may be repeated")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "comment in the history")
	cmd.Flags().StringVar(&f.platform, "platform", "", "platform of the image (default: this machine's)")
	return cmd
}

func (a *app) importTar(ctx context.Context, f *importFlags, args []string) (err error) {
	if err := export.CheckNames(args[1:]...); err != nil {
		return err
	}
	ps, err := flags.Platforms([]string{f.platform})
	if err != nil {
		return err
	}
	if len(ps) > 1 {
		return mistake.New("--platform %s: one platform is wanted", f.platform)
	}
	var config registry.ImageConfig
	config.Platform = binfmt.Local()
	if len(ps) == 1 {
		config.Platform = platforms.Normalize(ps[0])
	}
	if config, err = containers.ChangeConfig(ctx, config, f.changes); err != nil {
		return err
	}
	in := a.std.In
	switch {
	case strings.Contains(args[0], "://"):
		return mistake.Unsupported("import of a URL", "use curl URL | builder import -")
	case args[0] != "-":
		file, err := os.Open(args[0])
		if err != nil {
			return mistake.New("import: %w", err)
		}
		defer file.Close()
		in = file
	case isTerminal(in):
		return mistake.New("import reads a tar from stdin").WithHint("name a FILE")
	}
	return a.withEngine(ctx, engine.Access{}, func(e *engine.Engine) error {
		img, err := containers.Import(ctx, e, in, config, cmp.Or(f.message, "Imported from "+args[0]))
		if err == nil {
			err = e.Images.Put(ctx, img, args[1:]...)
		}
		if err == nil {
			_, err = fmt.Fprintln(a.std.Out, img.ID)
		}
		return err
	})
}

func (a *app) exportCommand() *cobra.Command {
	var dest string
	platform := &flags.Platform{}
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] RUN|IMAGE",
		Short: "Write the file system of a kept run or of an image as a tar",
		Args:  exactArgs(1, "a run or an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if dest == "" {
				if isTerminal(a.std.Out) {
					return mistake.New("a tar is not written to a terminal").WithHint("use -o FILE")
				}
				dest = "-"
			}
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return a.exportTar(cmd.Context(), e, args[0], dest, platform)
			})
		},
	}
	platform.Register(cmd.Flags(), flags.WhichPlatform)
	cmd.Flags().StringVarP(&dest, "output", "o", "", "file to write (default stdout)")
	return cmd
}

func (a *app) exportTar(ctx context.Context, e *engine.Engine, name, dest string, platform *flags.Platform) error {
	p, err := platform.Parse()
	if err != nil {
		return err
	}
	stack, err := containers.FileSystem(e, name, p)
	if err != nil {
		return err
	}
	files, err := e.Store.Tree(ctx, stack)
	if err != nil {
		return err
	}
	set := tree.Set{Trees: []tree.Tree{{Tree: files}}}
	return a.disk().File(ctx, dest, func(w io.Writer) error { return set.WriteTar(ctx, w) })
}
