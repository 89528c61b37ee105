package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/progress"
	"layered.build/builder/snapshot"
)

// maxQuestions is how many blobs are asked for at once.
const maxQuestions = 16

// maxCompressions is how many layers are compressed at once.
const maxCompressions = 2

// LayerBlob makes sure that the compressed form of the last layer of a stack is
// among the store's blobs, and describes it: the form that the layer was pulled
// as, or else a gzip that is made now. Several calls for one layer compress it
// once.
func (c *Client) LayerBlob(ctx context.Context, stack snapshot.Stack) (ocispec.Descriptor, error) {
	l := stack[len(stack)-1]
	name := "blob " + string(l.DiffID)
	desc, err := c.works.once(ctx, name, func() (ocispec.Descriptor, error) { return c.layerBlob(ctx, stack) })
	if err == nil && !c.store.Blobs().Has(desc.Digest) { // collected since
		c.works.forget(name)
		return c.layerBlob(ctx, stack)
	}
	return desc, err
}

func (c *Client) layerBlob(ctx context.Context, stack snapshot.Stack) (ocispec.Descriptor, error) {
	l := stack[len(stack)-1]
	if desc, ok := c.knownBlob(l); ok {
		if err := c.ensureBlob(ctx, stack, desc); err == nil || ctx.Err() != nil {
			return desc, err
		}
	}
	return c.compress(ctx, l, io.Discard)
}

// knownBlob returns the compressed form that a layer is known to have.
func (c *Client) knownBlob(l snapshot.Layer) (ocispec.Descriptor, bool) {
	if desc, ok := c.store.Blob(l); ok {
		return desc, true
	}
	if o, err := c.images.Origin(l.DiffID); err == nil && o != nil {
		return o.Blob, true
	}
	return ocispec.Descriptor{}, false
}

// ensureBlob brings a blob into the store from where it was pulled, or, if it is
// one that we made, by making it again.
func (c *Client) ensureBlob(ctx context.Context, stack snapshot.Stack, desc ocispec.Descriptor) error {
	if c.store.Blobs().Has(desc.Digest) {
		return nil
	}
	l := stack[len(stack)-1]
	o, err := c.images.Origin(l.DiffID)
	if from := o.Find(desc.Digest); err == nil && from != nil {
		if err = c.store.FetchBlob(ctx, c.lazy(l.DiffID, from.Blob, from.References()...)); err == nil {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	made, cerr := c.compress(ctx, l, io.Discard)
	switch {
	case cerr != nil:
		return errors.Join(err, cerr)
	case made.Digest != desc.Digest:
		return errors.Join(err, fmt.Errorf("layer %s: %w: blob %s cannot be made again", l.DiffID, fs.ErrNotExist, desc.Digest))
	}
	return nil
}

// compress writes a layer's tar as gzip into the store's blobs, and to w as well;
// errors of w are the caller's affair.
func (c *Client) compress(ctx context.Context, l snapshot.Layer, w io.Writer) (ocispec.Descriptor, error) {
	desc, err := c.compressTo(ctx, l, w, Compression{})
	if err != nil {
		return desc, fmt.Errorf("compress layer %s: %w", l.DiffID, err)
	}
	return desc, c.store.SetBlob(l, desc)
}

func (c *Client) compressTo(ctx context.Context, l snapshot.Layer, w io.Writer, how Compression) (ocispec.Descriptor, error) {
	if err := c.compressions.Acquire(ctx, 1); err != nil {
		return ocispec.Descriptor{}, err
	}
	defer c.compressions.Release(1)
	tar, err := c.store.Tar(ctx, l)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer tar.Close()
	b, err := c.newBlob(ctx, how, w)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	seen := &progress.Writer{W: io.Discard, To: ProgressOf(ctx), Item: "compressing " + progress.Item(digest.Digest(l.DiffID)), Total: layerSize(l)}
	_, err = b.ReadFrom(io.TeeReader(tar, seen))
	return b.Finish(err)
}

// newBlob begins a blob; w receives its bytes as well, and errors of w are the
// caller's affair. The caller calls finish.
func (c *Client) newBlob(ctx context.Context, how Compression, w io.Writer) (*compression.Blob, error) {
	out, err := c.store.Blobs().Writer(ctx)
	if err != nil {
		return nil, err
	}
	return compression.NewBlob(out, how, &tolerantTee{main: out, side: w})
}

// layerSize is the length of a layer's tar, -1 if it is not known.
func layerSize(l snapshot.Layer) int64 {
	if l.Size > 0 {
		return l.Size
	}
	return -1
}

// tolerantTee writes to main, and to side until that fails.
type tolerantTee struct {
	main, side io.Writer
}

// Write implements io.Writer.
func (t *tolerantTee) Write(p []byte) (int, error) {
	if t.side != nil {
		if _, err := t.side.Write(p); err != nil {
			t.side = nil
		}
	}
	return t.main.Write(p)
}

// Complete makes sure that all blobs of an image are in the store, and returns
// its manifest: the one that it has, or a new one of OCI's types.
func (c *Client) Complete(ctx context.Context, img *Image) (ocispec.Descriptor, []byte, error) {
	keep, err := img.KeptLayers()
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	layers := make([]ocispec.Descriptor, len(img.Stack))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(c.opts.Parallel)
	for i := range img.Stack {
		group.Go(func() error {
			var err error
			if keep == nil {
				layers[i], err = c.LayerBlob(gctx, img.Stack[:i+1])
				return err
			}
			return c.ensureBlob(gctx, img.Stack[:i+1], keep[i])
		})
	}
	if err := group.Wait(); err != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("complete image %s: %w", img.ID, err)
	}
	if keep != nil {
		return *img.Manifest, img.RawManifest, nil
	}
	return image.NewManifest(ocispec.Descriptor{Digest: img.ID, Size: int64(len(img.RawConfig))}, layers, Form{})
}

// keptWhole is kept from the beginning on.
func (c *Client) keptWhole(desc ocispec.Descriptor) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) { return c.kept(desc)(ctx, 0) }
}

// kept opens a blob of the store.
func (c *Client) kept(desc ocispec.Descriptor) func(context.Context, int64) (io.ReadCloser, error) {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		f, err := c.store.Blobs().Open(desc.Digest)
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}
}
