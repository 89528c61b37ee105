package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

const (
	// entriesType is the media type of the list of a layer's entries, as the store writes
	// it (snapshot.Store.WriteEntries).
	entriesType = "application/vnd.builder.cache.entries.v1+zstd"
	// maxEntries is how many bytes such a list may have, compressed.
	maxEntries = 64 << 20
	// entriesWindow bounds what reading one needs of memory.
	entriesWindow = 8 << 20
)

// errEntries says that a list of entries is too long to be exported.
var errEntries = errors.New("the layer has too many entries")

// Entries implements snapshot.Outlines with the lists that places have. Of foreign layers
// only those count that somebody signed.
func (s *Session) Entries(ctx context.Context, chain snapshot.ChainID, foreign bool) (io.ReadCloser, error) {
	for _, src := range s.sources {
		if foreign && len(src.Verify) == 0 {
			continue
		}
		desc, err := src.entriesOf(ctx, chain)
		if err != nil {
			return nil, err
		}
		if desc == nil {
			continue
		}
		r, err := src.openEntries(ctx, *desc)
		if err == nil {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.mu.Lock()
		s.spoiled[src.String()+" "+string(desc.Digest)] = true
		s.mu.Unlock()
		s.tellOnce(fmt.Sprintf("cache %s: the list of a layer's files cannot be used, and the layer is fetched: %v", src, err), "entries "+src.String())
	}
	return nil, fmt.Errorf("entries of %s: %w", chain, fs.ErrNotExist)
}

// entriesOf finds the list of the layer that completes a chain, nil if the place has none.
func (i *importer) entriesOf(ctx context.Context, chain snapshot.ChainID) (*ocispec.Descriptor, error) {
	scopes, err := i.load(ctx)
	if err != nil {
		return nil, err
	}
	if len(i.Verify) > 0 { // what nobody signed is not believed
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.verified[chain], nil
	}
	for _, sc := range scopes {
		if d := sc.entries()[chain]; d != nil {
			return d, nil
		}
	}
	return nil, nil
}

// noteEntries remembers the list of a layer that a record names which is believed.
func (i *importer) noteEntries(chain snapshot.ChainID, l layer) {
	if len(i.Verify) == 0 || l.Entries == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verified == nil {
		i.verified = map[snapshot.ChainID]*ocispec.Descriptor{}
	}
	i.verified[chain] = l.Entries
}

// byChain finds the lists of the layers that have one.
func (x *index) byChain() map[snapshot.ChainID]*ocispec.Descriptor {
	chains := make([]snapshot.ChainID, len(x.Stacks))
	m := map[snapshot.ChainID]*ocispec.Descriptor{}
	for i, s := range x.Stacks {
		var below snapshot.ChainID
		if s.Below >= 0 {
			below = chains[s.Below]
		}
		l := &x.Layers[s.Layer]
		chains[i] = below.With(l.DiffID)
		if l.Entries != nil {
			m[chains[i]] = l.Entries
		}
	}
	return m
}

// openEntries reads a list and verifies it.
func (i *importer) openEntries(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	data, err := i.rawEntries(ctx, desc)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(entriesWindow))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

// rawEntries reads a list as it is compressed, and verifies it.
func (i *importer) rawEntries(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxEntries {
		return nil, fmt.Errorf("%w: %d bytes", errEntries, desc.Size)
	}
	r, err := newReader(ctx, i.Backend, Blob{Descriptor: desc}, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxEntries+1))
	if err == nil && digest.FromBytes(data) != desc.Digest {
		err = fmt.Errorf("blob %s is damaged", desc.Digest)
	}
	return data, err
}

// sendEntries makes sure that the place has the list of a layer's entries, and describes
// it. It is nil where there is none: the layer is not here, or has too many.
func (t *exporter) sendEntries(ctx context.Context, l snapshot.Layer, chain snapshot.ChainID) (*ocispec.Descriptor, error) {
	from, desc, err := t.imported(ctx, chain)
	if err != nil {
		return nil, err
	}
	if desc != nil && samePlace(from.Backend, t.Backend) && !t.session.isSpoiled(t.String(), desc.Digest) {
		return desc, nil
	}
	data, err := t.packEntries(l)
	if errors.Is(err, fs.ErrNotExist) && desc != nil {
		data, err = from.rawEntries(ctx, *desc)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, nil //nolint:nilerr // it only saves work
	}
	made := ocispec.Descriptor{MediaType: entriesType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	damaged := t.session.isSpoiled(t.String(), made.Digest)
	if t.has(made.Digest) && !damaged {
		return &made, nil
	}
	return &made, t.store(ctx, Blob{Descriptor: made}, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
	}, damaged)
}

// imported finds the list of a layer in the places that were read.
func (t *exporter) imported(ctx context.Context, chain snapshot.ChainID) (*importer, *ocispec.Descriptor, error) {
	for _, src := range t.session.sources {
		if !src.wasRead() {
			continue
		}
		if d, err := src.entriesOf(ctx, chain); err != nil || d != nil {
			return src, d, err
		}
	}
	return nil, nil, nil
}

// packEntries compresses the list of a layer of this machine.
func (t *exporter) packEntries(l snapshot.Layer) ([]byte, error) {
	out := &bounded{most: maxEntries}
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(t.session.opts.Store.WriteEntries(l, z), z.Close()); err != nil {
		return nil, err
	}
	return out.b.Bytes(), nil
}

// bounded is a buffer that does not become larger than most bytes.
type bounded struct {
	b    bytes.Buffer
	most int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.b.Len()+len(p) > b.most {
		return 0, errEntries
	}
	return b.b.Write(p)
}
