package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/resume"
	"layered.build/builder/snapshot"
)

// patience is how long a place is waited for before it counts as gone.
const patience = time.Minute

// maxBelow is how many layers may be below those that one place promises, counted for each:
// that many are hashed and kept in memory.
const maxBelow = 2_000_000

// importer reads one place.
type importer struct {
	Source
	session *Session
	below   atomic.Int64 // see maxBelow
	refused atomic.Bool  // a record was found that may not be used

	turn   chan struct{} // of one that reads the place
	mu     sync.Mutex    // guards what follows
	loaded bool
	read   bool  // the place has answered, be it that it holds nothing
	err    error // of a place that must be readable
	scopes []*loadedScope
	// verified are the lists of layers' entries that records name which somebody signed.
	verified map[snapshot.ChainID]*ocispec.Descriptor
}

// loadedScope is the index of a scope as it was read. It does not change.
type loadedScope struct {
	name    string
	version string
	index   *index
	records map[cache.Key]*record
	// entries finds the lists of layers' entries.
	entries func() map[snapshot.ChainID]*ocispec.Descriptor
}

// load reads the indexes of all scopes, once: the first time that something is looked up
// which this machine has not. What cannot be read is told and is empty.
func (i *importer) load(ctx context.Context) ([]*loadedScope, error) {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if scopes, ok, err := i.known(); ok {
		return scopes, err
	}
	names := i.Scopes
	if len(names) == 0 {
		names = []string{""}
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	scopes, errs := make([]*loadedScope, len(names)), make([]error, len(names))
	err := i.session.opts.Task(limited, "importing cache from "+i.String(), func(ctx context.Context) error {
		var wg sync.WaitGroup
		for n, name := range names {
			wg.Go(func() { scopes[n], errs[n] = readScope(ctx, i.Backend, name) })
		}
		wg.Wait()
		return nil
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, sc := range scopes {
		if sc != nil {
			i.scopes = append(i.scopes, sc)
		}
		i.read = i.read || errs[n] == nil || errors.Is(errs[n], fs.ErrNotExist)
		if errs[n] == nil {
			continue
		}
		err := fmt.Errorf("read cache %s: %w", i.of(names[n]), errs[n])
		if i.Strict && !errors.Is(errs[n], fs.ErrNotExist) {
			i.err = errors.Join(i.err, err)
			continue
		}
		i.session.tellOnce(err.Error(), "")
	}
	i.loaded = true
	return i.scopes, i.err
}

// of names a scope for people.
func (i *importer) of(scope string) string {
	if scope == "" {
		return i.String()
	}
	return i.String() + ", scope " + scope
}

// known is what load has found, once it has.
func (i *importer) known() ([]*loadedScope, bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.scopes, i.loaded, i.err
}

// Preload begins to read the indexes of all places, which otherwise are read when something
// is looked up first that is not here. The caller calls stop in the end, which waits.
func (s *Session) Preload(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, i := range s.sources {
		wg.Go(func() { _, _ = i.load(ctx) }) // who looks something up meets the error
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// newReader reads a blob of a place; the caller closes the reader, and verifies what it gives.
func newReader(ctx context.Context, from Backend, b Blob, offset int64) (io.ReadCloser, error) {
	return resume.Open(ctx, resume.Blob{
		Name: fmt.Sprintf("blob %s of cache %s", b.Digest, from), Size: b.Size, Patience: patience,
		Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) { return from.Open(ctx, b, offset) },
	}, offset)
}

// wasRead reports whether the place has answered.
func (i *importer) wasRead() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.read
}

// readScope reads one index. The error matches fs.ErrNotExist if there is none.
func readScope(ctx context.Context, b Backend, name string) (*loadedScope, error) {
	data, version, err := b.Index(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing was exported there yet (%w)", fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	x, err := decodeIndex(data)
	if err != nil {
		return nil, err
	}
	return newLoadedScope(name, version, x), nil
}

// get returns the record of a key, nil if the place has none that can be used and is
// younger than a time. The error is that of a place that must be readable.
func (i *importer) get(ctx context.Context, key cache.Key, since time.Time) (*cache.Record, error) {
	scopes, err := i.load(ctx)
	if err != nil {
		return nil, err
	}
	for _, sc := range scopes {
		r := sc.records[key]
		if r == nil {
			continue
		}
		if !time.Unix(r.Created, 0).After(since) || !i.verify(sc, r) {
			i.refused.Store(true)
			continue
		}
		rec, err := i.restore(sc, r)
		if err != nil {
			i.session.tellOnce(fmt.Sprintf("cache %s: a record cannot be used: %v", i, err), "record "+i.String()+string(key))
			continue
		}
		if rec != nil {
			return rec, nil
		}
	}
	return nil, nil
}

// restore makes a record whose layers are fetched when they are needed. It is nil if the
// layers below are not those that this machine knows.
func (i *importer) restore(sc *loadedScope, r *record) (*cache.Record, error) {
	rec := &cache.Record{
		Key: r.Key, Definition: r.Definition, Created: time.Unix(r.Created, 0),
		Duration: time.Duration(r.Duration) * time.Millisecond, Findings: r.Findings,
	}
	for _, o := range r.Outputs {
		stack := snapshot.Stack{}
		var chain snapshot.ChainID
		for _, l := range sc.index.layers(o) {
			chain = chain.With(l.DiffID)
			got, ok, err := i.restoreLayer(stack, chain, l)
			if err != nil || !ok {
				return nil, err
			}
			stack = append(stack, got)
			i.noteEntries(chain, l)
		}
		rec.Outputs = append(rec.Outputs, stack)
	}
	return rec, nil
}

// restoreLayer makes one layer known on top of a stack, whose chain it completes. It is
// false if that cannot be.
func (i *importer) restoreLayer(parent snapshot.Stack, chain snapshot.ChainID, l layer) (snapshot.Layer, bool, error) {
	s := i.session
	if l.Content == "" {
		known, ok := s.opts.Store.Known(chain)
		return known, ok, nil
	}
	if known, ok := s.opts.Store.Lookup(chain); ok && known.Content == l.Content {
		return l.dated(known), true, nil
	}
	if l.Blob == nil {
		known, ok := s.opts.Store.Known(chain)
		return known, ok && known.Content == l.Content, nil
	}
	s.mu.Lock()
	was := s.lazy[chain]
	s.mu.Unlock()
	if was != nil && was.from == i {
		return l.dated(was.layer), !was.banned && was.layer.Content == l.Content, nil
	}
	if was != nil && !was.banned {
		return l.dated(was.layer), was.layer.Content == l.Content, nil
	}
	if i.below.Add(int64(len(parent))) > maxBelow {
		return snapshot.Layer{}, false, errors.New("the records name too many layers on top of each other")
	}
	now := &restored{from: i, blob: Blob{Descriptor: *l.Blob, DiffID: l.DiffID}}
	got, err := s.opts.Store.AddLazy(parent, snapshot.LazyLayer{
		DiffID: l.DiffID, Content: l.Content, Blob: *l.Blob,
		Open: func(ctx context.Context) (io.ReadCloser, error) { return newReader(ctx, i.Backend, now.blob, 0) },
	})
	if err != nil {
		return got, false, err
	}
	now.layer = got
	if k, ok := i.Backend.(Keeper); ok {
		if err := k.Keep(l.DiffID, *l.Blob); err != nil {
			return got, false, err
		}
	}
	s.mu.Lock()
	s.lazy[chain] = now
	s.mu.Unlock()
	return l.dated(got), true, nil
}

// dated is a layer as the record says that it was made: history tells that.
func (l layer) dated(got snapshot.Layer) snapshot.Layer {
	got.Created = time.Time{}
	if l.Created != 0 {
		got.Created = time.Unix(l.Created, 0).UTC()
	}
	got.Size = l.Size
	return got
}
