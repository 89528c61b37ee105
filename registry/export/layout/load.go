package layout

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
)

// maxEntries bounds the files of an archive.
const maxEntries = 100_000

// Load reads an OCI layout or a docker archive (also a gzip or zstd of one) into
// the store, and returns the images with their names. Digests are kept: an image
// from an OCI layout has the same manifest as before. Of an image for several
// platforms the one for this machine is taken.
func Load(ctx context.Context, r io.Reader, c *registry.Client) ([]*registry.Image, error) {
	return load(ctx, archive(r), c, true)
}

// LoadFolder is Load of what has been unpacked, or was a folder from the beginning.
func LoadFolder(ctx context.Context, dir string, c *registry.Client) ([]*registry.Image, error) {
	return load(ctx, folder(dir), c, true)
}

// LoadUnnamed is Load that gives the images no names in the store; they are in what
// is returned.
func LoadUnnamed(ctx context.Context, r io.Reader, c *registry.Client) ([]*registry.Image, error) {
	return load(ctx, archive(r), c, false)
}

// spooler gives a loader files.
type spooler func(ctx context.Context, l *loader) error

func load(ctx context.Context, spool spooler, c *registry.Client, named bool) ([]*registry.Image, error) {
	l := &loader{c: c, named: named, files: map[string]digest.Digest{}, links: map[string]string{}, keep: map[digest.Digest]bool{}}
	images, err := l.load(ctx, spool)
	if cerr := l.clean(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("load image archive: %w", err)
	}
	return images, nil
}

// loader spools every file of the archive into the store's blobs, because an
// archive may say at its end what its beginning means.
type loader struct {
	c     *registry.Client
	named bool
	files map[string]digest.Digest
	links map[string]string
	// added are blobs that were not there before; those not in keep go again.
	added []digest.Digest
	keep  map[digest.Digest]bool
}

func (l *loader) load(ctx context.Context, spool spooler) ([]*registry.Image, error) {
	if err := spool(ctx, l); err != nil {
		return nil, err
	}
	names, err := l.dockerNames()
	if err != nil {
		return nil, err
	}
	if _, ok := l.find(ocispec.ImageIndexFile); ok {
		return l.oci(ctx, names)
	}
	if names == nil {
		return nil, fmt.Errorf("%w: neither an OCI layout (index.json) nor a docker archive (manifest.json)", registry.ErrInvalid)
	}
	return l.docker(ctx, names)
}

// archive gives the files of an archive.
func archive(r io.Reader) spooler {
	return func(ctx context.Context, l *loader) error {
		raw := &source{r: r}
		plain, err := decompress(raw)
		if err != nil {
			return raw.blame(err, notArchive)
		}
		defer plain.Close()
		return l.spool(ctx, tar.NewReader(plain), raw)
	}
}

// folder gives the files of a folder, which links do not lead out of.
func folder(dir string) spooler {
	return func(ctx context.Context, l *loader) error {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		files := 0
		return fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() && d.Type() != fs.ModeSymlink {
				return err
			}
			if files++; files > maxEntries {
				return fmt.Errorf("%w: more than %d files", registry.ErrInvalid, maxEntries)
			}
			if d.Type() == fs.ModeSymlink {
				to, err := root.Readlink(name)
				l.links[name] = path.Join(path.Dir(name), to)
				return err
			}
			f, err := root.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			if l.files[name], err = l.blob(ctx, name, f); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
}

// decompress recognises a stream by its first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	magic, err := br.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		return pgzip.NewReader(br)
	case string(magic) == "\x28\xb5\x2f\xfd":
		zr, err := zstd.NewReader(br)
		if err != nil {
			return nil, err
		}
		return zr.IOReadCloser(), nil
	}
	return io.NopCloser(br), nil
}

func (l *loader) spool(ctx context.Context, tr *tar.Reader, raw *source) error {
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil && n == 0 {
			return raw.blame(err, notArchive)
		}
		if err != nil {
			return raw.blame(err, damagedArchive)
		}
		if n == maxEntries {
			return fmt.Errorf("%w: more than %d files", registry.ErrInvalid, maxEntries)
		}
		name := path.Clean(strings.TrimPrefix(hdr.Name, "/"))
		switch hdr.Typeflag {
		case tar.TypeReg:
			if l.files[name], err = l.blob(ctx, name, blaming{tr, raw}); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		case tar.TypeSymlink:
			l.links[name] = path.Join(path.Dir(name), hdr.Linkname)
		case tar.TypeLink:
			l.links[name] = path.Clean(strings.TrimPrefix(hdr.Linkname, "/"))
		}
	}
}

// blob stores one file. Files of a layout must be what their name says.
func (l *loader) blob(ctx context.Context, name string, r io.Reader) (digest.Digest, error) {
	blobs := l.c.Store().Blobs()
	w, err := blobs.Writer(ctx)
	if err != nil {
		return "", err
	}
	defer w.Close()
	if _, err := io.Copy(w, ctxReader{ctx, r}); err != nil {
		return "", err
	}
	d := w.Digest()
	if hex, ok := strings.CutPrefix(name, "blobs/sha256/"); ok && hex != d.Encoded() {
		return "", fmt.Errorf("%w: got %s", registry.ErrBadDigest, d)
	}
	if blobs.Has(d) {
		return d, nil
	}
	l.added = append(l.added, d)
	return w.Commit(d)
}

// clean removes what was only needed for loading.
func (l *loader) clean() error {
	var errs []error
	for _, d := range l.added {
		if !l.keep[d] {
			errs = append(errs, l.c.Store().Blobs().Remove(d))
		}
	}
	return errors.Join(errs...)
}

// find follows links between the archive's files.
func (l *loader) find(name string) (digest.Digest, bool) {
	name = path.Clean(name)
	for range 8 {
		if d, ok := l.files[name]; ok {
			return d, true
		}
		next, ok := l.links[name]
		if !ok {
			return "", false
		}
		name = next
	}
	return "", false
}

// json decodes a small file of the archive.
func (l *loader) json(name string, v any) error {
	d, ok := l.find(name)
	if !ok {
		return fmt.Errorf("%s: %w in the archive", name, registry.ErrNotFound)
	}
	raw, err := l.c.Store().Blobs().ReadAll(d)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %w: %w", name, registry.ErrInvalid, err)
	}
	return nil
}

// dockerNames reads manifest.json, nil if there is none.
func (l *loader) dockerNames() ([]dockerImage, error) {
	if _, ok := l.find("manifest.json"); !ok {
		return nil, nil
	}
	images := []dockerImage{}
	return images, l.json("manifest.json", &images)
}

// put stores an image under the names that are valid; names of the archive that
// are not are an error.
func (l *loader) put(ctx context.Context, img *registry.Image, names []string) (*registry.Image, error) {
	for _, n := range names {
		ref, err := registry.ParseReference(n)
		if err != nil {
			return nil, err
		}
		if full := ref.String(); !slices.Contains(img.Names, full) {
			img.Names = append(img.Names, full)
		}
	}
	if !l.named {
		return img, l.c.Images().Put(ctx, img)
	}
	return img, l.c.Images().Put(ctx, img, img.Names...)
}
