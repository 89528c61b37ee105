package shared

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

const (
	// parallel is how many blobs of one place are stored at once.
	parallel = 4
	// rounds is how often an index is made anew because others wrote one.
	rounds = 12
	// lastWords bounds what is done for a place after an export to it failed.
	lastWords = 10 * time.Second
)

// exporter writes to one place.
type exporter struct {
	Target
	session *Session
	slots   chan struct{} // of blobs that are stored
	mounts  []*Mount      // that are exported; used by export alone
	signs   *signs        // used by export alone

	queue chan *cache.Record // nil: nothing is sent ahead
	wg    sync.WaitGroup

	mu   sync.Mutex // guards what follows
	sent map[snapshot.ChainID]*sending
	// there are the blobs that the index named when it was read last.
	there map[digest.Digest]bool
	// loose are blobs that no index is known to name: what was stored, or found there although
	// the index did not name it, and what indexes named that were replaced.
	loose map[digest.Digest]Blob
}

// sending is a layer on its way to a place; one of all that want it does it.
type sending struct {
	done    chan struct{} // closed when all of this is known:
	blob    *ocispec.Descriptor
	entries *ocispec.Descriptor
	err     error
	// doubted says that what was found may not be so any more; guarded by exporter.mu.
	doubted bool
}

func newExporter(s *Session, to Target) *exporter {
	return &exporter{Target: to, session: s, slots: make(chan struct{}, parallel), signs: newSigns(to.Signer, s.keysFor(to.String())), sent: map[snapshot.ChainID]*sending{}, there: map[digest.Digest]bool{}, loose: map[digest.Digest]Blob{}}
}

// Begin begins to send what the build makes while later steps run. The caller calls
// Finish, with the same ctx or one that ends later.
func (s *Session) Begin(ctx context.Context) {
	for _, t := range s.targets {
		if t.Mode != ModeMax {
			continue
		}
		t.queue = make(chan *cache.Record, 1024)
		t.wg.Go(func() {
			var g errgroup.Group
			g.SetLimit(parallel)
			var failed atomic.Bool // a place that is silent would be waited for with each layer
			for rec := range t.queue {
				g.Go(func() error {
					if failed.Load() {
						return nil
					}
					if _, err := t.layers(ctx, rec); err != nil { // Finish meets the error again and reports it
						failed.Store(true)
					}
					return nil
				})
			}
			_ = g.Wait()
		})
	}
}

// ahead has the layers of a record sent while the build goes on.
func (t *exporter) ahead(rec *cache.Record) {
	if t.queue == nil {
		return
	}
	select {
	case t.queue <- rec:
	default: // Finish sends it
	}
}

// Finish writes what the build used and made to all places; the stacks are its results.
// It is called once, also after a build that failed: what was done is kept. Errors are
// those of places that must be written; others are told.
func (s *Session) Finish(ctx context.Context, results []snapshot.Stack) error {
	errs := make([]error, len(s.targets))
	var wg sync.WaitGroup
	for i, t := range s.targets {
		wg.Go(func() {
			if t.queue != nil {
				close(t.queue)
				t.wg.Wait()
				t.queue = nil
			}
			if ctx.Err() != nil {
				return
			}
			err := s.opts.Task(ctx, "exporting cache to "+t.String(), func(ctx context.Context) error {
				return t.export(ctx, s.chosen(t.Mode, results))
			})
			switch {
			case err == nil:
			case ctx.Err() != nil:
				errs[i] = context.Cause(ctx)
			case t.Strict:
				errs[i] = fmt.Errorf("export cache to %s: %w", t, err)
			default:
				s.tellOnce(fmt.Sprintf("export cache to %s: %v", t, err), "")
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// chosen are the records that a mode exports. One that was used until a layer of it turned
// out to be gone cannot be: what the place has of that layer is not known.
func (s *Session) chosen(mode string, results []snapshot.Stack) map[cache.Key]*cache.Record {
	below := map[snapshot.ChainID]bool{"": true}
	for _, stack := range results {
		var chain snapshot.ChainID
		for _, l := range stack {
			chain = chain.With(l.DiffID)
			below[chain] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[cache.Key]*cache.Record{}
	for key, rec := range s.noted {
		all := s.whole(rec)
		for _, o := range rec.Outputs {
			all = all && (mode == ModeMax || below[o.ChainID()])
		}
		if all {
			out[key] = rec
		}
	}
	return out
}

// export sends the layers of the records, then an index that names them. Where space is
// bounded, what was sent in vain is removed.
func (t *exporter) export(ctx context.Context, recs map[cache.Key]*cache.Record) error {
	if t.session.opts.Lock != nil {
		unlock, err := t.session.opts.Lock(ctx, "cache "+t.String()+" "+t.Scope)
		if err != nil {
			return err
		}
		defer unlock()
	}
	err := t.exportAll(ctx, recs)
	if err != nil && t.MaxSize > 0 && ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(ctx, lastWords)
		defer cancel()
		_ = t.free(ctx, &index{}) // the error that counts is the first
	}
	return err
}

func (t *exporter) exportAll(ctx context.Context, recs map[cache.Key]*cache.Record) error {
	old := t.last()
	if old == nil {
		var err error
		if old, err = t.read(ctx); err != nil {
			return err
		}
	}
	t.know(old)
	outputs, err := t.allLayers(ctx, recs)
	if err != nil {
		return err
	}
	if err := t.sendMounts(ctx, old); err != nil {
		return err
	}
	if !t.news(old, recs, outputs) {
		return t.settle(ctx, old.index)
	}
	busy := false
	for round := range rounds {
		now, err := t.read(ctx) // somebody may have written since it was read
		if err != nil {
			return err
		}
		if round > 0 && !t.news(now, recs, outputs) { // it was written, after all
			return t.settle(ctx, now.index)
		}
		busy = busy || now.version != old.version
		old = now
		if lost, err := t.lost(ctx, old, outputs); err != nil {
			return err
		} else if lost {
			if outputs, err = t.allLayers(ctx, recs); err != nil {
				return err
			}
		}
		if err := t.resendMounts(ctx, old); err != nil {
			return err
		}
		written, err := t.write(ctx, old, recs, outputs)
		if errors.Is(err, ErrConflict) {
			busy = true
			if t.isLoose() {
				wait(ctx) // whoever is writing must have done so before it is looked at again
			}
			pause(ctx, round)
			continue
		}
		if err != nil {
			return err
		}
		t.replaced(old)
		t.keepWritten(written, recs)
		if t.isLoose() {
			if busy {
				wait(ctx)
			}
			now, err := t.read(ctx)
			if err != nil {
				return err
			}
			if t.news(now, recs, outputs) {
				busy = true
				pause(ctx, round)
				continue
			}
		}
		if again, err := t.removedMeanwhile(ctx, old, outputs); err != nil {
			return err
		} else if !again {
			return errors.Join(t.settle(ctx, written), t.retire(ctx, old))
		}
		if outputs, err = t.allLayers(ctx, recs); err != nil {
			return err
		}
		if err := t.sendMounts(ctx, old); err != nil {
			return err
		}
	}
	return fmt.Errorf("others replaced the index %d times: %w", rounds, ErrConflict)
}

// last is the index as it was imported from the same place, nil if it was not.
func (t *exporter) last() *loadedScope {
	for _, i := range t.session.sources {
		if !samePlace(i.Backend, t.Backend) {
			continue
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		for _, sc := range i.scopes {
			if sc.name == t.Scope {
				return sc
			}
		}
	}
	return nil
}

// read reads the index as it is now; one that is damaged is told and begun anew.
func (t *exporter) read(ctx context.Context) (*loadedScope, error) {
	data, version, err := t.Index(ctx, t.Scope)
	if errors.Is(err, fs.ErrNotExist) {
		return newLoadedScope(t.Scope, "", &index{}), nil
	}
	if err != nil {
		return nil, err
	}
	x, err := decodeIndex(data)
	if err != nil {
		t.session.tellOnce(fmt.Sprintf("cache %s: %v: it is begun anew", t, err), "")
		x = &index{}
		if t.MaxSize > 0 || t.Reset {
			for _, b := range blobsNamedIn(data) {
				t.unnamed(b)
			}
		}
	}
	return newLoadedScope(t.Scope, version, x), nil
}

func newLoadedScope(name, version string, x *index) *loadedScope {
	return &loadedScope{name: name, version: version, index: x, records: x.byKey(), entries: sync.OnceValue(x.byChain)}
}

// know remembers which blobs an index names.
func (t *exporter) know(sc *loadedScope) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range sc.index.blobs() {
		t.there[b.Digest] = true
	}
}

// news reports whether an index lacks any of the records, or the use of one today.
func (t *exporter) news(sc *loadedScope, recs map[cache.Key]*cache.Record, outputs map[cache.Key][][]layer) bool {
	for key, rec := range recs {
		r := sc.records[key]
		if r == nil || r.Used < today() || !t.same(sc, r, outputs[key]) || !t.signs.satisfied(sc, r) {
			return true
		}
		if r.Created < rec.Created.Unix() && !t.keeps(r) { // who wants no old results asks for that
			return true
		}
	}
	return t.mountNews(sc) || t.Reset && (len(sc.records) > len(recs) || len(sc.index.Mounts) > len(t.mounts))
}

// sameOutputs reports whether the layers of two records are the same in the same forms.
func sameOutputs(a, b [][]layer) bool { return slices.EqualFunc(a, b, sameLayers) }

// sameLayers reports whether two stacks are the same layers in the same forms.
func sameLayers(a, b []layer) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if x.DiffID != y.DiffID || x.Content != y.Content || (x.Blob == nil) != (y.Blob == nil) || (x.Entries == nil) != (y.Entries == nil) || x.Blob != nil && x.Blob.Digest != y.Blob.Digest {
			return false
		}
	}
	return true
}

// write puts the records into the place's index.
func (t *exporter) write(ctx context.Context, old *loadedScope, recs map[cache.Key]*cache.Record, outputs map[cache.Key][][]layer) (*index, error) {
	entries, err := t.entries(ctx, old, recs, outputs)
	if err != nil {
		return nil, err
	}
	w := newWriter()
	if !t.Reset {
		w.addOthers(old.index, recs) // of what is replaced nothing is to be named
	}
	for _, e := range entries {
		w.add(e.record, e.outputs)
	}
	w.out.Mounts = slices.DeleteFunc(w.out.Mounts, func(m *Mount) bool { return t.Forget.Has(m.ID) })
	for _, m := range t.mounts {
		w.addMount(m)
	}
	x := w.within(t.MaxSize)
	data, err := x.encode()
	if err != nil {
		return nil, err
	}
	return x, t.Replace(ctx, t.Scope, data, x.blobs(), old.version)
}

func today() int64 { return time.Now().Unix() / (24 * 60 * 60) }
