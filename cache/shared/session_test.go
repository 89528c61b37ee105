package shared

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/snapshot"
)

// emptyStore has no layers, but knows those that can be fetched.
type emptyStore struct {
	lazy map[snapshot.ChainID]snapshot.Layer
}

func (*emptyStore) Lookup(snapshot.ChainID) (snapshot.Layer, bool) { return snapshot.Layer{}, false }

func (s *emptyStore) Known(chain snapshot.ChainID) (snapshot.Layer, bool) {
	l, ok := s.lazy[chain]
	return l, ok
}

// layerOn is a layer that stands on others.
func layerOn(parent snapshot.Stack, d snapshot.DiffID, content digest.Digest) snapshot.Layer {
	chain := parent.ChainID().With(d)
	return snapshot.Layer{ID: snapshot.LayerID(digest.Digest(chain).Encoded()), DiffID: d, Content: content}
}

func (s *emptyStore) AddLazy(parent snapshot.Stack, l snapshot.LazyLayer) (snapshot.Layer, error) {
	layer := layerOn(parent, l.DiffID, l.Content)
	s.lazy[parent.ChainID().With(l.DiffID)] = layer
	return layer, nil
}

func (*emptyStore) WriteEntries(snapshot.Layer, io.Writer) error { return fs.ErrNotExist }

func (*emptyStore) Name(_ context.Context, _, layers snapshot.Stack) (snapshot.Stack, error) {
	return layers, nil
}

// forms has a form of every layer.
type forms struct{}

func (forms) Pack(_ context.Context, stack snapshot.Stack, _ Compression) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{Digest: digest.FromString("blob of " + string(stack[len(stack)-1].DiffID)), Size: 9}, nil
}

func (forms) Known(snapshot.Layer) (ocispec.Descriptor, bool) { return ocispec.Descriptor{}, false }

func (forms) Packed(ocispec.Descriptor) Content { return nil }

// onlyIndex is a place that has an index, and none of the blobs.
type onlyIndex struct{ index []byte }

func (*onlyIndex) String() string { return "place" }

func (*onlyIndex) Missing(_ context.Context, blobs []Blob) ([]Blob, error) { return blobs, nil }

func (*onlyIndex) Store(context.Context, Blob, Content) error { return errors.New("not here") }

func (*onlyIndex) Open(context.Context, Blob, int64) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

func (p *onlyIndex) Index(context.Context, string) ([]byte, string, error) {
	if p.index == nil {
		return nil, "", fs.ErrNotExist
	}
	return p.index, "1", nil
}

func (p *onlyIndex) Replace(_ context.Context, _ string, data []byte, _ []Blob, _ string) error {
	p.index = data
	return nil
}

func testKey(name string) cache.Key { return cache.Key(digest.FromString(name)) }

// testLayer is one whose blob a place has, or not.
func testLayer(name string, there bool) layer {
	l := layer{DiffID: snapshot.DiffID(digest.FromString(name)), Content: digest.FromString("content of " + name)}
	if there {
		l.Blob = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString("blob of " + string(l.DiffID)), Size: 9}
	}
	return l
}

func newPlace(t *testing.T, records map[string][]layer) *onlyIndex {
	t.Helper()
	w := newWriter()
	for name, ls := range records {
		w.add(record{Key: testKey(name)}, [][]layer{ls})
	}
	data, err := w.out.encode()
	if err != nil {
		t.Fatal(err)
	}
	return &onlyIndex{data}
}

func newTestSession(p Backend) *Session {
	return New(Options{
		Local: &cachetest.Memory{}, Store: &emptyStore{lazy: map[snapshot.ChainID]snapshot.Layer{}}, Packer: forms{},
		From: []Source{{Backend: p}}, To: []Target{{Backend: p, To: To{Mode: ModeMax}}},
	})
}

// lose tells the session that a layer cannot be fetched.
func lose(t *testing.T, s *Session, l layer) {
	t.Helper()
	if !s.Recover(t.Context(), &snapshot.FetchError{DiffID: l.DiffID, Blob: l.Blob.Digest, Err: fs.ErrNotExist}) {
		t.Fatal("the build is not begun again")
	}
}

// A record that was used until its layer turned out to be gone is not exported as one of a
// base image's: whoever reads that would not know where the layer is.
func TestExportAfterLoss(t *testing.T) {
	gone := testLayer("a", true)
	p := newPlace(t, map[string][]layer{"a": {gone}})
	s := newTestSession(p)
	if _, err := s.Get(t.Context(), testKey("a")); err != nil {
		t.Fatal(err)
	}
	lose(t, s, gone)
	if err := s.Put(t.Context(), testKey("b"), &cache.Record{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Finish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	x, err := decodeIndex(p.index)
	if err != nil {
		t.Fatal(err)
	}
	records := x.byKey()
	if records[testKey("b")] == nil {
		t.Error("what was made is not exported")
	}
	if got := x.layers(records[testKey("a")].Outputs[0]); got[0].Blob == nil {
		t.Errorf("exported as %+v", got)
	}
}

// What is known to be gone is a miss, whatever record names it: also one that says that its
// layer is a base image's.
func TestGoneIsMiss(t *testing.T) {
	gone := testLayer("a", true)
	p := newPlace(t, map[string][]layer{"a": {gone}, "b": {gone}, "poisoned": {testLayer("a", false)}})
	s := newTestSession(p)
	if _, err := s.Get(t.Context(), testKey("a")); err != nil {
		t.Fatal(err)
	}
	lose(t, s, gone)
	for _, name := range []string{"a", "b", "poisoned"} {
		if rec, err := s.Get(t.Context(), testKey(name)); !errors.Is(err, cache.ErrMiss) {
			t.Errorf("%s: got %v, %v", name, rec, err)
		}
	}
}

// fullStore has all layers.
type fullStore struct{ emptyStore }

func (*fullStore) Lookup(snapshot.ChainID) (snapshot.Layer, bool) { return snapshot.Layer{}, true }

// broken is a place that fails, and counts how often.
type broken struct {
	onlyIndex
	asked atomic.Int64
}

func (b *broken) Missing(context.Context, []Blob) ([]Blob, error) {
	b.asked.Add(1)
	return nil, errors.New("broken")
}

// A place that fails is not asked again for each of many layers: it may take a minute each
// time.
func TestBrokenWhileSending(t *testing.T) {
	p := &broken{}
	var told []string
	s := New(Options{
		Local: &cachetest.Memory{}, Store: &fullStore{}, Packer: forms{}, To: []Target{{Backend: p, To: To{Mode: ModeMax}}},
		Tell: func(text string) { told = append(told, text) },
	})
	s.Begin(t.Context())
	for i := range 200 {
		l := testLayer(strconv.Itoa(i), false)
		rec := &cache.Record{Outputs: []snapshot.Stack{{layerOn(nil, l.DiffID, l.Content)}}}
		if err := s.Put(t.Context(), testKey(strconv.Itoa(i)), rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Finish(t.Context(), nil); err != nil || len(told) != 1 {
		t.Errorf("%v, told %q", err, told)
	}
	if n := p.asked.Load(); n > 4*parallel {
		t.Errorf("asked %d times", n)
	}
}

// counting is a place that has all blobs, and counts what it is asked and given.
type counting struct {
	onlyIndex
	asked, stored atomic.Int64
}

func (c *counting) Missing(context.Context, []Blob) ([]Blob, error) {
	c.asked.Add(1)
	return nil, nil
}

func (c *counting) Store(context.Context, Blob, Content) error {
	c.stored.Add(1)
	return nil
}

// What is damaged in the place is sent again, although it was there when a step that stands
// on it was exported.
func TestSentAgain(t *testing.T) {
	below, above := testLayer("below", true), testLayer("above", false)
	p := &counting{onlyIndex: *newPlace(t, map[string][]layer{"below": {below}})}
	store := &halfStore{emptyStore: emptyStore{lazy: map[snapshot.ChainID]snapshot.Layer{}}}
	s := New(Options{
		Local: &cachetest.Memory{}, Store: store, Packer: forms{},
		From: []Source{{Backend: p}}, To: []Target{{Backend: p, To: To{Mode: ModeMax}}},
	})
	s.Begin(t.Context())
	rec, err := s.Get(t.Context(), testKey("below"))
	if err != nil {
		t.Fatal(err)
	}
	// A record that is found and kept is not looked for in the place that it comes from.
	if err := s.Put(t.Context(), testKey("below"), rec); err != nil {
		t.Fatal(err)
	}
	stack := append(slices.Clone(rec.Outputs[0]), layerOn(rec.Outputs[0], above.DiffID, above.Content))
	store.here.Store(string(stack.ChainID()), true)
	if err := s.Put(t.Context(), testKey("above"), &cache.Record{Outputs: []snapshot.Stack{stack}}); err != nil {
		t.Fatal(err)
	}
	for p.asked.Load() < 2 { // below, then above
		runtime.Gosched()
	}
	lose(t, s, below)
	store.here.Store(string(rec.Outputs[0].ChainID()), true) // it was made anew
	if err := s.Finish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if p.stored.Load() != 1 {
		t.Errorf("%d blobs were sent", p.stored.Load())
	}
	if p.asked.Load() > 3 {
		t.Errorf("asked %d times", p.asked.Load())
	}
}

// halfStore has the layers that are in here.
type halfStore struct {
	emptyStore
	here sync.Map
}

func (s *halfStore) Lookup(chain snapshot.ChainID) (snapshot.Layer, bool) {
	_, ok := s.here.Load(string(chain))
	return s.lazy[chain], ok
}

// A place that had other bytes than it should is not believed to have what was made anew:
// that may be damaged, too, as what is made anew may be the same.
func TestNotBelieved(t *testing.T) {
	for _, gone := range []bool{true, false} {
		a, b := testLayer("a", true), testLayer("b", true)
		p := &counting{onlyIndex: *newPlace(t, map[string][]layer{"a": {a}, "b": {b}})}
		store := &halfStore{emptyStore: emptyStore{lazy: map[snapshot.ChainID]snapshot.Layer{}}}
		s := New(Options{
			Local: &cachetest.Memory{}, Store: store, Packer: forms{},
			From: []Source{{Backend: p}}, To: []Target{{Backend: p, To: To{Mode: ModeMax}}},
		})
		if _, err := s.Get(t.Context(), testKey("a")); err != nil {
			t.Fatal(err)
		}
		err := errors.New("damaged")
		if gone {
			err = fs.ErrNotExist
		}
		if !s.Recover(t.Context(), &snapshot.FetchError{DiffID: a.DiffID, Blob: a.Blob.Digest, Err: err}) {
			t.Fatal("the build is not begun again")
		}
		for _, l := range []layer{a, b} {
			stack := snapshot.Stack{layerOn(nil, l.DiffID, l.Content)}
			store.here.Store(string(stack.ChainID()), true)
			if err := s.Put(t.Context(), testKey(string(l.DiffID)), &cache.Record{Outputs: []snapshot.Stack{stack}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Finish(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if n := p.stored.Load(); gone && n != 1 || !gone && n != 2 {
			t.Errorf("gone %t: %d blobs were sent", gone, n)
		}
	}
}
