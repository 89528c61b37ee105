package object

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/shared"
)

// Options say how a Place uses a bucket.
type Options struct {
	// Name is what the place is called, for people.
	Name string
	// Layouts are those of the place and of the others that are read beside it.
	Layouts []Layout
	// Parallel is how many blobs are stored at once (0: 4).
	Parallel int
	// Touch is how old blobs may become that an index names, where they can be touched.
	Touch time.Duration
	// Tried says that it is not known whether the service keeps conditions: it is tried.
	Tried bool
	// Part is the size of parts (0: 8 MiB).
	Part int
	// Retry is for what breaks while it is read.
	Retry Retry
}

// statParallel is how many objects are asked for at once.
const statParallel = 16

// Place is a shared cache in a bucket.
type Place struct {
	bucket Bucket
	layout Layout
	o      Options

	stores chan struct{} // of blobs that are stored
	parts  chan struct{} // of parts in memory

	loose     atomic.Bool // conditions have no effect
	confirmed atomic.Bool // it is known whether they have

	mu       sync.Mutex
	modified map[digest.Digest]time.Time // guarded by mu; of blobs that were seen
	notes    map[string]string           // guarded by mu; of indexes that were read
}

var (
	_ shared.Backend = (*Place)(nil)
	_ shared.Loose   = (*Place)(nil)
	_ shared.Named   = (*Place)(nil)
	_ shared.Several = (*Place)(nil)
)

// NewPlace makes the place of the first layout.
func NewPlace(b Bucket, o Options) *Place {
	o.Parallel, o.Part = cmp.Or(o.Parallel, 4), cmp.Or(o.Part, 8<<20)
	p := &Place{
		bucket: b, layout: o.Layouts[0], o: o,
		stores: make(chan struct{}, o.Parallel), parts: make(chan struct{}, 2*o.Parallel),
		modified: map[digest.Digest]time.Time{}, notes: map[string]string{},
	}
	p.confirmed.Store(!o.Tried)
	return p
}

// Others implements shared.Several with the places of the other layouts.
func (p *Place) Others() []shared.Backend {
	var out []shared.Backend
	for _, l := range p.o.Layouts[1:] {
		o := p.o
		o.Layouts = []Layout{l}
		o.Name = p.o.Name + " " + l.Index
		out = append(out, NewPlace(p.bucket, o))
	}
	return out
}

// String implements shared.Backend.
func (p *Place) String() string { return p.o.Name }

// IndexName implements shared.Named.
func (p *Place) IndexName() string { return p.layout.Blobs + " " + p.layout.Index }

// Loose implements shared.Loose. It is false until the service has shown otherwise, in the
// first Replace at the latest.
func (p *Place) Loose() bool { return p.loose.Load() }

// Missing implements shared.Blobs. What has another size is missing too.
func (p *Place) Missing(ctx context.Context, blobs []shared.Blob) ([]shared.Blob, error) {
	missing := make([]bool, len(blobs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(statParallel)
	for i, b := range blobs {
		g.Go(func() error {
			there, err := p.stat(ctx, b)
			missing[i] = !there
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []shared.Blob
	for i, b := range blobs {
		if missing[i] {
			out = append(out, b)
		}
	}
	return out, nil
}

// stat reports whether a blob is there, and remembers when it was written.
func (p *Place) stat(ctx context.Context, b shared.Blob) (bool, error) {
	info, err := p.bucket.Stat(ctx, p.layout.blob(b.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.Size >= 0 && info.Size != b.Size:
		return false, nil
	}
	p.see(b.Digest, info.Modified)
	return true, nil
}

func (p *Place) see(d digest.Digest, modified time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.modified[d] = modified
}

// Open implements shared.Blobs.
func (p *Place) Open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	if offset > 0 && offset >= b.Size { // no range begins there
		if there, err := p.stat(ctx, b); err != nil || !there {
			return nil, errors.Join(err, fmt.Errorf("blob %s: %w", b.Digest, fs.ErrNotExist))
		}
		return http.NoBody, nil
	}
	r, info, err := p.bucket.Get(ctx, p.layout.blob(b.Digest), offset)
	if err != nil {
		return nil, err
	}
	if info.Size >= 0 && info.Size != b.Size {
		r.Close()
		return nil, fmt.Errorf("blob %s has %d bytes, not %d", b.Digest, info.Size, b.Size)
	}
	return r, nil
}
