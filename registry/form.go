package registry

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/snapshot"
)

// Compression is how layers are compressed. The zero value is the usual form:
// gzip for layers that were made here, for others what they came in.
type Compression struct {
	// Type is "", "gzip", "zstd", "uncompressed", "estargz" or "zstd:chunked".
	Type string
	// Level is the compressor's own, nil for the usual one.
	Level *int
	// Force also changes layers that were made elsewhere.
	Force bool
}

// Check says what is wrong with the values. Errors match ErrInvalid.
func (o Compression) Check() error {
	limit := 9
	switch o.Type {
	case "", "gzip", estargzType:
	case "zstd", chunkedType:
		limit = 22
	case "uncompressed":
		if o.Level != nil {
			return fmt.Errorf("%w: compression=uncompressed has no level", ErrInvalid)
		}
	default:
		return fmt.Errorf("%w: compression=%s is not supported: want gzip, zstd, estargz, zstd:chunked or uncompressed", ErrInvalid, o.Type)
	}
	if o.Level != nil && (*o.Level < 0 || *o.Level > limit) {
		return fmt.Errorf("%w: compression-level=%d: want 0 to %d", ErrInvalid, *o.Level, limit)
	}
	return nil
}

func (o Compression) mediaType() string {
	switch o.Type {
	case "zstd", chunkedType:
		return ocispec.MediaTypeImageLayerZstd
	case "uncompressed":
		return ocispec.MediaTypeImageLayer
	}
	return ocispec.MediaTypeImageLayerGzip
}

// usual reports whether layers that are made here have this form anyway.
func (o Compression) usual() bool {
	return (o.Type == "" || o.Type == "gzip") && o.Level == nil
}

// String names the compression, its level and whether it is forced.
func (o Compression) String() string {
	s := cmp.Or(o.Type, "gzip")
	if o.Level != nil {
		s += fmt.Sprintf("-%d", *o.Level)
	}
	if o.Force {
		s += " forced"
	}
	return s
}

// NeedsOCI reports whether Docker's media types have no name for the form.
func (o Compression) NeedsOCI() bool {
	return o.Type == "zstd" || o.Type == chunkedType || o.Type == estargzType
}

// ChangesLayers reports whether the plain content of layers becomes another one, and
// with it the image's id.
func (o Compression) ChangesLayers() bool { return o.Type == estargzType }

// isForm reports whether a blob has the form already.
func (o Compression) isForm(desc ocispec.Descriptor) bool {
	toc := keepTOC(desc.Annotations) != nil
	wantTOC := o.Type == estargzType || o.Type == chunkedType
	return asType(desc, false).MediaType == o.mediaType() && toc == wantTOC
}

// Form is what an image's manifest looks like.
type Form struct {
	Compression Compression
	// DockerTypes makes Docker's media types instead of OCI's.
	DockerTypes bool
	// Foreign keeps base layers that must not be distributed where they are, and
	// says so; otherwise they are treated like all others.
	Foreign     bool
	Annotations map[string]string
}

// Shape returns the image with a manifest of the form; what is pushed or saved of
// it has that manifest. The blobs are in the store then.
func (c *Client) Shape(ctx context.Context, img *Image, form Form) (*Image, error) {
	if err := form.Compression.Check(); err != nil {
		return nil, err
	}
	layers, err := c.shapeLayers(ctx, img.Stack, form)
	if err != nil {
		return nil, fmt.Errorf("compress the layers of image %s: %w", img.ID, err)
	}
	if img, err = c.withDiffIDs(img, layers); err != nil {
		return nil, err
	}
	config := ocispec.Descriptor{Digest: img.ID, Size: int64(len(img.RawConfig))}
	desc, raw, err := newManifest(config, layers, form)
	if err != nil {
		return nil, err
	}
	out := *img
	out.Manifest, out.RawManifest = &desc, raw
	return &out, nil
}

// shapeLayers compresses the layers of a stack as the form asks for.
func (c *Client) shapeLayers(ctx context.Context, stack snapshot.Stack, form Form) ([]ocispec.Descriptor, error) {
	layers := make([]ocispec.Descriptor, len(stack))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Parallel)
	for i := range stack {
		group.Go(func() error {
			var err error
			layers[i], err = c.shapeLayer(ctx, stack[:i+1], form)
			return err
		})
	}
	return layers, group.Wait()
}

// CompressLayers compresses the layers of a stack ahead of a Shape or Complete of an
// image that has them, while the rest of it is still being made. With onlyNew, those of
// which no compressed form is known.
func (c *Client) CompressLayers(ctx context.Context, stack snapshot.Stack, form Form, onlyNew bool) error {
	var err error
	if !onlyNew {
		_, err = c.shapeLayers(ctx, stack, form)
	}
	for i, l := range stack {
		if _, known := c.knownBlob(l); onlyNew && !known && err == nil {
			_, err = c.shapeLayer(ctx, stack[:i+1], form)
		}
	}
	if err != nil {
		return fmt.Errorf("compress layers ahead: %w", err)
	}
	return nil
}

func (c *Client) shapeLayer(ctx context.Context, stack snapshot.Stack, form Form) (ocispec.Descriptor, error) {
	l, how, foreign := stack[len(stack)-1], form.Compression, form.Foreign
	imported := c.store.Imported(l)
	if imported {
		known, ok := c.knownBlob(l)
		kept := ok && (!how.Force || how.Level == nil && how.isForm(known))
		if foreign && ok && isForeign(known) {
			return known, nil
		}
		if kept {
			return known, c.ensureBlob(ctx, stack, known)
		}
		if how.Type == "" {
			return c.LayerBlob(ctx, stack)
		}
	} else if how.usual() {
		return c.LayerBlob(ctx, stack)
	}
	if err := c.Attach(stack); err != nil {
		return ocispec.Descriptor{}, err
	}
	level := "usual"
	if how.Level != nil {
		level = fmt.Sprint(*how.Level)
	}
	name := strings.Join([]string{"blob", string(l.DiffID), how.Type, level}, " ")
	return c.once(ctx, name, func() (ocispec.Descriptor, error) {
		desc, err := c.compressTo(ctx, l, io.Discard, how)
		if err != nil {
			return desc, fmt.Errorf("layer %s: %w", l.DiffID, err)
		}
		return desc, nil
	})
}

// zstdThreads is fixed, since the bytes may depend on it.
const zstdThreads = 2

// compressor returns a writer that compresses into w; its Close does not close w.
func (o Compression) compressor(w io.Writer) (io.WriteCloser, error) {
	switch {
	case o.Type == "uncompressed":
		return nopCloser{w}, nil
	case o.Type == estargzType, o.Type == chunkedType:
		return newTOCWriter(w, o.Type, o.Level), nil
	case o.Type == "zstd":
		level := 3
		if o.Level != nil {
			level = *o.Level
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(zstdThreads))
	case o.Level == nil:
		return newGzip(w)
	}
	zw, err := pgzip.NewWriterLevel(w, *o.Level)
	if err != nil {
		return nil, err
	}
	return zw, zw.SetConcurrency(gzipBlock, gzipBlocks)
}

type nopCloser struct{ io.Writer }

// Close implements io.Closer.
func (nopCloser) Close() error { return nil }

// usual reports whether a blob is the form that a layer has when nothing else is
// asked for. Only that is remembered, lest one push decide on the next.
func (c *Client) usual(l snapshot.Layer, desc ocispec.Descriptor) bool {
	if c.store.Imported(l) {
		return true
	}
	known, ok := c.store.Blob(l)
	return ok && known.Digest == desc.Digest
}
