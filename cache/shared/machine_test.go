package shared_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/snapshot"
)

// machine has records, and layers whose bytes are their names. It implements shared.Store
// and shared.Packer.
type machine struct {
	*cachetest.Memory
	mu     sync.Mutex // guards what follows
	layers map[snapshot.ChainID]snapshot.Layer
	told   []string
	later  time.Duration // that steps are made
}

func newMachine() *machine {
	return &machine{Memory: &cachetest.Memory{}, layers: map[snapshot.ChainID]snapshot.Layer{}}
}

// Lookup implements shared.Store.
func (m *machine) Lookup(chain snapshot.ChainID) (snapshot.Layer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.layers[chain]
	return l, ok
}

// Known implements shared.Store.
func (m *machine) Known(chain snapshot.ChainID) (snapshot.Layer, bool) { return m.Lookup(chain) }

func idOf(chain snapshot.ChainID) snapshot.LayerID {
	return snapshot.LayerID(digest.Digest(chain).Encoded())
}

// AddLazy implements shared.Store.
func (m *machine) AddLazy(parent snapshot.Stack, l snapshot.LazyLayer) (snapshot.Layer, error) {
	return snapshot.Layer{ID: idOf(parent.ChainID().With(l.DiffID)), DiffID: l.DiffID, Content: l.Content}, nil
}

// Name implements shared.Store: all layers have names.
func (m *machine) Name(_ context.Context, _, layers snapshot.Stack) (snapshot.Stack, error) {
	return layers, nil
}

func form(l snapshot.Layer) ocispec.Descriptor {
	data := []byte(l.DiffID)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// Pack implements shared.Packer.
func (m *machine) Pack(_ context.Context, stack snapshot.Stack, _ shared.Compression) (ocispec.Descriptor, error) {
	return form(stack[len(stack)-1]), nil
}

// WriteEntries implements shared.Store.
func (m *machine) WriteEntries(l snapshot.Layer, w io.Writer) error {
	_, err := io.WriteString(w, "entries of "+string(l.DiffID))
	return err
}

// packer is a machine as a shared.Packer.
type packer struct{ *machine }

// Known implements shared.Packer.
func (p packer) Known(snapshot.Layer) (ocispec.Descriptor, bool) { return ocispec.Descriptor{}, false }

// Packed implements shared.Packer.
func (p packer) Packed(f ocispec.Descriptor) shared.Content {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.layers {
		if form(l).Digest == f.Digest {
			return sharedtest.Content([]byte(l.DiffID))
		}
	}
	return func(context.Context, int64) (io.ReadCloser, error) { return nil, errors.New("no such form") }
}

func key(name string) cache.Key { return cache.Key(digest.FromString(name)) }

// layer is a layer that stands on nothing.
func (m *machine) layer(name string) snapshot.Layer {
	diff := snapshot.DiffID(digest.FromString("diff " + name))
	l := snapshot.Layer{ID: idOf(snapshot.ChainID(diff)), DiffID: diff, Content: digest.FromString("content " + name), Size: 10, Created: time.Unix(1e9, 0)}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.layers[snapshot.ChainID(diff)] = l
	return l
}

// session is that of one build.
func (m *machine) session(from []shared.Source, to []shared.Target) *shared.Session {
	return shared.New(shared.Options{
		Local: m.Memory, Store: m, Packer: packer{m}, From: from, To: to,
		Tell: func(text string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.told = append(m.told, text)
		},
	})
}

// makes has a machine make steps, and export them.
func (m *machine) makes(t *testing.T, to shared.Target, steps ...string) {
	t.Helper()
	s := m.session(nil, []shared.Target{to})
	for _, name := range steps {
		if err := m.put(s, name); err != nil {
			t.Fatal(err)
		}
	}
	m.export(t, s)
}

// put has a session know a step that was just made.
func (m *machine) put(s *shared.Session, step string) error {
	rec := &cache.Record{Definition: key(step), Step: step, Created: time.Now().Add(m.later), Outputs: []snapshot.Stack{{m.layer(step)}}}
	return s.Put(context.Background(), key(step), rec)
}

// uses has a machine look steps up, and export them.
func (m *machine) uses(t *testing.T, from shared.Source, to shared.Target, steps ...string) {
	t.Helper()
	s := m.session([]shared.Source{from}, []shared.Target{to})
	if got := m.finds(t, s, steps...); !slices.Equal(got, steps) {
		t.Fatalf("found %q of %q: %q", got, steps, m.told)
	}
	m.export(t, s)
}

func (m *machine) export(t *testing.T, s *shared.Session) {
	t.Helper()
	if err := s.Finish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if len(m.told) > 0 {
		t.Fatalf("told %q", m.told)
	}
}

// finds are the steps that a session has.
func (m *machine) finds(t *testing.T, s *shared.Session, steps ...string) (found []string) {
	t.Helper()
	for _, name := range steps {
		rec, err := s.Get(t.Context(), key(name))
		if err != nil && !errors.Is(err, cache.ErrMiss) {
			t.Fatal(err)
		}
		if rec == nil {
			continue
		}
		found = append(found, name)
		if want := snapshot.DiffID(digest.FromString("diff " + name)); rec.Outputs[0][0].DiffID != want {
			t.Errorf("%s leads to %s", name, rec.Outputs[0][0].DiffID)
		}
	}
	return found
}

// told finds what was told, once.
func (m *machine) wasTold(t *testing.T, want string) {
	t.Helper()
	if n := strings.Count(strings.Join(m.told, "\n"), want); n != 1 {
		t.Errorf("%d of what was told have %q: %q", n, want, m.told)
	}
}

// index is an index as anybody can read and write it.
type index map[string]any

func readIndex(t *testing.T, p shared.Backend, scope string) (index, string) {
	t.Helper()
	data, version, err := p.Index(t.Context(), scope)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := index{}
	if err := json.NewDecoder(r).Decode(&x); err != nil {
		t.Fatal(err)
	}
	return x, version
}

// change changes an index as anybody can who may write to the place.
func change(t *testing.T, p shared.Backend, scope string, fn func(index)) {
	t.Helper()
	x, version := readIndex(t, p, scope)
	fn(x)
	put(t, p, scope, x, version)
}

func put(t *testing.T, p shared.Backend, scope string, x index, version string) {
	t.Helper()
	text, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := p.Replace(t.Context(), scope, w.EncodeAll(text, nil), nil, version); err != nil {
		t.Fatal(err)
	}
}

// record is that of a step.
func (x index) record(t *testing.T, step string) map[string]any {
	t.Helper()
	for _, r := range x["Records"].([]any) {
		if r := r.(map[string]any); r["Key"] == string(key(step)) {
			return r
		}
	}
	t.Fatal(fmt.Errorf("no record of %s", step))
	return nil
}
