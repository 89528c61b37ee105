package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/task"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/engines"
	"layered.build/builder/registry/export/layout"
)

// The transports of `builder copy`, with the names that skopeo gives them.
const (
	viaRegistry = "docker"
	viaStore    = "store"
	viaOCI      = "oci"
	viaArchive  = "oci-archive"
	viaDocker   = "docker-archive"
	viaDaemon   = "docker-daemon"
	viaPodman   = "containers-storage"
)

// place is one end of a copy.
type place struct {
	via  string
	path string // of a file or directory
	ref  string // a name, or a layout's tag or digest
}

// parsePlace reads TRANSPORT:…; without a transport it is a name in a registry.
func parsePlace(s string) (place, error) {
	via, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && (via == viaOCI || via == viaArchive || via == viaDocker):
		p := place{via: via, path: rest}
		if path, sum, ok := strings.Cut(rest, "@"); ok {
			p.path, p.ref = path, sum
		} else if i := strings.Index(rest, ":"); i >= 0 {
			p.path, p.ref = rest[:i], rest[i+1:]
		}
		if p.path == "" {
			return p, mistake.New("%s: the path is missing", s).WithHint("write %s:PATH[:NAME]", via)
		}
		return p, nil
	case ok && (via == viaStore || via == viaDaemon || via == viaPodman):
		return place{via: via, ref: rest}, nil
	case ok && (via == "dir" || via == "ostree" || via == "sif" || via == "tarball" || via == "atomic"):
		return place{}, mistake.Unsupported("the transport "+via, "use oci:, oci-archive:, docker-archive:, docker-daemon:, containers-storage:, store: or a name in a registry")
	}
	p := place{via: viaRegistry, ref: strings.TrimPrefix(s, "docker://")}
	if _, err := registry.ParseReference(p.ref); err != nil {
		return p, mistake.New("%w", err)
	}
	return p, nil
}

// direct reports whether manifests and blobs are read or written as they are.
func (p place) direct() bool { return p.via != viaDocker && p.via != viaDaemon && p.via != viaPodman }

// engine is the engine of an image that is in one.
func (p place) engine() (string, bool) {
	switch p.via {
	case viaDaemon:
		return engines.Docker, true
	case viaPodman:
		return engines.Podman, true
	}
	return "", false
}

type copyFlags struct {
	registry  flags.Registry
	platforms []string
	all       bool
	quiet     bool
}

func (a *app) copyCommand() *cobra.Command {
	f := &copyFlags{}
	cmd := &cobra.Command{
		Use:   "copy [OPTIONS] SOURCE DESTINATION",
		Short: "Copy an image between registries, OCI layouts, archives and engines",
		Long: `Copy an image, for all of its platforms and with its digests, without unpacking it.
SOURCE and DESTINATION are

  [docker://]NAME            a name in a registry
  oci:DIR[:TAG|@DIGEST]      an OCI image layout
  oci-archive:FILE[:TAG]     a tar of one
  docker-archive:FILE[:NAME] what docker save writes
  docker-daemon:NAME         an image of the docker engine
  containers-storage:NAME    an image of podman
  store:NAME                 an image of this store

What the destination has already is not sent. Of docker archives, docker and podman,
which hold an image for one platform and know no manifests, it is this machine's or
that of --platform; such a copy goes through the store.`,
		Args: exactArgs(2, "a source and a destination"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.copyImage(cmd.Context(), f, args[0], args[1])
		},
	}
	flags.SliceVar(cmd.Flags(), &f.platforms, "platform", "", "copy these platforms only; a list or repeated (default: all)")
	cmd.Flags().BoolVar(&f.all, "all-platforms", false, "copy all platforms (the default)")
	cmd.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "print the digest only")
	f.registry.Register(cmd.Flags())
	return cmd
}

func (a *app) copyImage(ctx context.Context, f *copyFlags, from, to string) error {
	src, err := parsePlace(from)
	if err != nil {
		return err
	}
	dst, err := parsePlace(to)
	if err != nil {
		return err
	}
	ps, err := flags.Platforms(f.platforms)
	if err != nil {
		return err
	}
	switch {
	case f.all && len(ps) > 0:
		return mistake.New("--platform and --all-platforms cannot be combined")
	case !src.direct() && len(ps) > 0:
		return mistake.New("--platform: %s holds an image for one platform", src.via)
	case !dst.direct() && (f.all || len(ps) > 1):
		return mistake.New("%s holds an image for one platform", dst.via).WithHint("choose one with --platform")
	case !dst.direct() && len(ps) == 0 && src.direct():
		ps = append(ps, binfmt.Local())
	}
	return a.withEngine(ctx, f.registry.Access(), func(e *engine.Engine) error {
		c := &copyJob{e: e, src: src, dst: dst, platforms: ps, disk: a.disk()}
		err := a.shown(ctx, f.quiet, "Copying", from+" to "+to, func(ctx context.Context, t *task.Task) error {
			c.t = t
			return c.advise(c.run(ctx))
		})
		if err == nil && c.desc.Digest != "" {
			prefix := "Digest: "
			if f.quiet {
				prefix = ""
			}
			_, err = fmt.Fprintln(a.std.Out, prefix+c.desc.Digest.String())
		}
		return err
	})
}

// copyJob is one copy.
type copyJob struct {
	e         *engine.Engine
	t         *task.Task
	src, dst  place
	platforms []ocispec.Platform
	disk      export.Disk
	desc      ocispec.Descriptor // what was copied
}

func (c *copyJob) run(ctx context.Context) error {
	if !c.src.direct() {
		img, err := c.fromEngine(ctx)
		if err != nil {
			return err
		}
		return c.fromStore(ctx, &registry.Index{Images: []*registry.Image{img}})
	}
	if !c.dst.direct() {
		return c.toEngine(ctx)
	}
	src, closeSrc, err := c.source(ctx)
	if err != nil {
		return err
	}
	return errors.Join(c.copy(ctx, src), closeSrc())
}

// advise tells of an image in the store that has the name which no registry knows.
func (c *copyJob) advise(err error) error {
	if err == nil || c.src.via != viaRegistry || !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrUnreachable) && !errors.Is(err, registry.ErrUnauthorized) {
		return err
	}
	if _, lerr := c.e.Images.ResolveIndex(c.src.ref); lerr != nil {
		return err
	}
	return &mistake.Advised{Err: err, Hint: "this store has an image of that name: write store:" + c.src.ref}
}

// source opens a source of manifests and blobs.
func (c *copyJob) source(ctx context.Context) (registry.Source, func() error, error) {
	none := func() error { return nil }
	switch c.src.via {
	case viaRegistry:
		src, err := c.e.Client.Source(c.src.ref)
		return src, none, err
	case viaStore:
		x, err := c.e.Images.ResolveIndex(c.src.ref)
		if err != nil {
			return nil, none, err
		}
		src, err := c.e.Client.StoreSource(ctx, x)
		return src, none, err
	}
	l, err := layout.OpenLayout(c.src.path, c.src.ref)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, none, mistake.New("%w", err)
	}
	if err != nil {
		return nil, none, err
	}
	return l, l.Close, nil
}

// copy copies to a destination of manifests and blobs.
func (c *copyJob) copy(ctx context.Context, src registry.Source) (err error) {
	opts := registry.CopyOptions{Platforms: c.platforms, Parallel: 4}
	copyTo := func(dst registry.Destination) error {
		c.desc, err = registry.Copy(ctx, dst, src, opts)
		return err
	}
	switch c.dst.via {
	case viaRegistry:
		dst, err := c.e.Client.Destination(c.dst.ref, src, registry.PushOptions{})
		if err != nil {
			return err
		}
		return copyTo(dst)
	case viaStore:
		dst := c.e.Client.StoreDestination()
		if err := copyTo(dst); err != nil {
			return err
		}
		_, err := dst.Result(ctx, c.names()...)
		return err
	case viaOCI:
		dst, err := layout.NewLayoutDir(c.dst.path, c.dst.ref)
		if err != nil {
			return err
		}
		return copyTo(dst)
	}
	return c.disk.File(ctx, c.dst.path, func(w io.Writer) error {
		dst, err := layout.NewLayoutTar(w, c.dst.ref)
		if err != nil {
			return err
		}
		return errors.Join(copyTo(dst), dst.Close())
	})
}

// names are those of the copy in a store or engine.
func (c *copyJob) names() []string {
	if c.dst.ref == "" {
		return nil
	}
	return []string{c.dst.ref}
}

// fromStore copies images of the store.
func (c *copyJob) fromStore(ctx context.Context, x *registry.Index) error {
	switch c.dst.via {
	case viaStore:
		return c.e.Images.Put(ctx, x.Images[0], c.names()...)
	case viaDocker, viaDaemon, viaPodman:
		return c.give(ctx, x.Images[0])
	}
	src, err := c.e.Client.StoreSource(ctx, x)
	if err != nil {
		return err
	}
	return c.copy(ctx, src)
}

// toEngine copies one platform's image by way of the store.
func (c *copyJob) toEngine(ctx context.Context) error {
	if c.src.via == viaStore {
		img, err := c.e.Images.ResolvePlatform(c.src.ref, c.platforms[0])
		if err != nil {
			return err
		}
		return c.give(ctx, img)
	}
	src, closeSrc, err := c.source(ctx)
	if err != nil {
		return err
	}
	dst := c.e.Client.StoreDestination()
	_, err = registry.Copy(ctx, dst, src, registry.CopyOptions{Platforms: c.platforms, Parallel: 4})
	if err = errors.Join(err, closeSrc()); err != nil {
		return err
	}
	x, err := dst.Result(ctx)
	if err != nil {
		return err
	}
	return c.give(ctx, x.Images[0])
}

// give writes an image into a docker archive or an engine.
func (c *copyJob) give(ctx context.Context, img *registry.Image) error {
	item := layout.Item{Image: img}
	if ref, err := registry.ParseReference(c.dst.ref); err == nil {
		item.Names = []string{ref.String()}
	}
	if name, ok := c.dst.engine(); ok {
		said, err := flags.EngineSettings().Load(ctx, engines.Target{Engine: name}, c.e.Client, item)
		if err == nil && said != "" {
			c.t.Item(said)
		}
		return err
	}
	return c.disk.File(ctx, c.dst.path, func(w io.Writer) error {
		return layout.WriteDocker(ctx, w, c.e.Client, item)
	})
}

// fromEngine takes an image of a docker archive or an engine into the store, without a
// name.
func (c *copyJob) fromEngine(ctx context.Context) (*registry.Image, error) {
	r, err := c.openArchive(ctx)
	if err != nil {
		return nil, err
	}
	imgs, err := layout.LoadUnnamed(ctx, r, c.e.Client)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if c.src.via == viaDocker && c.src.ref != "" {
		ref, err := registry.ParseReference(c.src.ref)
		if err != nil {
			return nil, mistake.New("%w", err)
		}
		i := slices.IndexFunc(imgs, func(img *registry.Image) bool { return slices.Contains(img.Names, ref.String()) })
		if i < 0 {
			return nil, fmt.Errorf("%s in %s: %w", c.src.ref, c.src.path, registry.ErrNotFound)
		}
		return imgs[i], nil
	}
	if len(imgs) != 1 {
		return nil, mistake.New("%s holds %d images", c.src.path, len(imgs)).WithHint("name one: %s:%s:NAME", c.src.via, c.src.path)
	}
	return imgs[0], nil
}

func (c *copyJob) openArchive(ctx context.Context) (io.ReadCloser, error) {
	if name, ok := c.src.engine(); ok {
		return flags.EngineSettings().Save(ctx, name, c.src.ref)
	}
	f, err := os.Open(c.src.path)
	if err != nil {
		return nil, mistake.New("%w", err)
	}
	return f, nil
}
