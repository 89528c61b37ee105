package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/platforms"
	"github.com/spf13/cobra"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/tree"
	"layered.build/builder/snapshot"
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
	arrayVar(cmd.Flags(), &f.changes, "change", "c", "Dockerfile instruction that sets the configuration; may be repeated")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "comment in the history")
	cmd.Flags().StringVar(&f.platform, "platform", "", "platform of the image (default: this machine's)")
	return cmd
}

func (a *app) importTar(ctx context.Context, f *importFlags, args []string) (err error) {
	if err := export.CheckNames(args[1:]...); err != nil {
		return err
	}
	ps, err := parsePlatforms([]string{f.platform})
	if err != nil {
		return err
	}
	if len(ps) > 1 {
		return mistake.New("--platform %s: one platform is wanted", f.platform)
	}
	var config registry.ImageConfig
	config.Platform = machine()
	if len(ps) == 1 {
		config.Platform = platforms.Normalize(ps[0])
	}
	if config, err = changeConfig(ctx, config, f.changes); err != nil {
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
	return a.withEngine(func(e *engine) error {
		img, err := e.importImage(ctx, in, config, f.message, args[0])
		if err == nil {
			err = e.images.Put(ctx, img, args[1:]...)
		}
		if err == nil {
			_, err = fmt.Fprintln(a.std.Out, img.ID)
		}
		return err
	})
}

// importImage makes an image of a tar. Its history names where the tar came from.
func (e *engine) importImage(ctx context.Context, r io.Reader, config registry.ImageConfig, message, from string) (*registry.Image, error) {
	l, err := e.store.Import(ctx, nil, "", r)
	if err != nil {
		return nil, err
	}
	if message == "" {
		message = "Imported from " + from
	}
	in := registry.AssembleInput{
		Config: config, Stack: snapshot.Stack{l},
		Steps: []registry.AssembleStep{{Comment: message, Stack: snapshot.Stack{l}, Config: config}},
	}
	img, err := registry.Assemble(in)
	if err != nil {
		return nil, err
	}
	recs, err := registry.V1Records(in)
	if err == nil {
		err = e.images.PutV1(recs...)
	}
	if n := len(recs); n > 0 {
		img.V1 = recs[n-1].ID
	}
	return img, err
}

func (a *app) exportCommand() *cobra.Command {
	var dest string
	platform := &platformFlag{}
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
			return a.withEngine(func(e *engine) error {
				return a.exportTar(cmd.Context(), e, args[0], dest, platform)
			})
		},
	}
	platform.register(cmd)
	cmd.Flags().StringVarP(&dest, "output", "o", "", "file to write (default stdout)")
	return cmd
}

func (a *app) exportTar(ctx context.Context, e *engine, name, dest string, platform *platformFlag) error {
	stack, err := e.fileSystem(name, platform)
	if err != nil {
		return err
	}
	files, err := e.store.Tree(ctx, stack)
	if err != nil {
		return err
	}
	set := tree.Set{Trees: []tree.Tree{{Tree: files}}}
	return a.disk().File(ctx, dest, func(w io.Writer) error { return set.WriteTar(ctx, w) })
}

// fileSystem is what a run left, or else what an image holds.
func (e *engine) fileSystem(name string, platform *platformFlag) (snapshot.Stack, error) {
	r, err := e.findRun(name)
	if err == nil {
		if r.record.Finished == nil {
			return nil, mistake.New("run %s has not ended", name).WithHint("only what an ended run left can be exported")
		}
		return r.record.Stack, e.client.Attach(r.record.Stack)
	}
	img, ierr := platform.find(e, name)
	if ierr != nil {
		return nil, errors.Join(ierr, err)
	}
	return img.Stack, e.completeStack(img)
}
