package sharedtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
)

// Memory is a place in memory. The zero value is empty.
type Memory struct {
	// Fault, unless nil, is asked before everything that is done: an error is what comes
	// of it. Op is "index", "replace", "missing", "store" or "open".
	Fault func(op string) error
	// Mangle, unless nil, changes the blobs that are read.
	Mangle func(d digest.Digest, data []byte) []byte

	mu      sync.Mutex
	blobs   map[digest.Digest][]byte
	indexes map[string][]byte
	n       map[string]int
	opened  map[digest.Digest]int
	layers  int
}

// OpenedLayers is how often layers were read.
func (m *Memory) OpenedLayers() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.layers
}

// String implements shared.Backend.
func (m *Memory) String() string { return "memory" }

// Opened is how often blobs were read.
func (m *Memory) Opened() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, o := range m.opened {
		n += o
	}
	return n
}

// Damage changes all blobs that are there now.
func (m *Memory) Damage() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d, b := range m.blobs {
		b = append([]byte("x"), b...)
		m.blobs[d] = b[:len(b)-1]
	}
}

// Plain returns all indexes as text.
func (m *Memory) Plain(t *testing.T) []byte {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []byte
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, x := range m.indexes {
		if out, err = r.DecodeAll(x, out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (m *Memory) fault(op string) error {
	if m.Fault == nil {
		return nil
	}
	return m.Fault(op)
}

// Missing implements shared.Blobs.
func (m *Memory) Missing(_ context.Context, blobs []shared.Blob) ([]shared.Blob, error) {
	if err := m.fault("missing"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []shared.Blob
	for _, b := range blobs {
		if _, ok := m.blobs[b.Digest]; !ok {
			out = append(out, b)
		}
	}
	return out, nil
}

// Store implements shared.Blobs.
func (m *Memory) Store(ctx context.Context, b shared.Blob, content shared.Content) error {
	if err := m.fault("store"); err != nil {
		return err
	}
	r, err := content(ctx, 0)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	if digest.FromBytes(data) != b.Digest {
		return fmt.Errorf("the content is not %s", b.Digest)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.blobs == nil {
		m.blobs = map[digest.Digest][]byte{}
	}
	m.blobs[b.Digest] = data
	return nil
}

// Open implements shared.Blobs.
func (m *Memory) Open(_ context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	if err := m.fault("open"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.blobs[b.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if m.opened == nil {
		m.opened = map[digest.Digest]int{}
	}
	m.opened[b.Digest]++
	if b.DiffID != "" {
		m.layers++
	}
	if m.Mangle != nil {
		data = m.Mangle(b.Digest, bytes.Clone(data))
	}
	return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
}

// Index implements shared.Indexes.
func (m *Memory) Index(_ context.Context, scope string) ([]byte, string, error) {
	if err := m.fault("index"); err != nil {
		return nil, "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.indexes[scope]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return bytes.Clone(data), strconv.Itoa(m.n[scope]), nil
}

// Replace implements shared.Indexes.
func (m *Memory) Replace(_ context.Context, scope string, data []byte, _ []shared.Blob, version string) error {
	if err := m.fault("replace"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.indexes == nil {
		m.indexes, m.n = map[string][]byte{}, map[string]int{}
	}
	now := ""
	if _, ok := m.indexes[scope]; ok {
		now = strconv.Itoa(m.n[scope])
	}
	if now != version {
		return shared.ErrConflict
	}
	m.indexes[scope] = bytes.Clone(data)
	m.n[scope]++
	return nil
}

// Remove implements shared.Remover.
func (m *Memory) Remove(_ context.Context, blobs []shared.Blob) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range blobs {
		if !m.names(b.Digest) {
			delete(m.blobs, b.Digest)
		}
	}
	return nil
}

// names reports whether an index names a blob. The caller holds m.mu.
func (m *Memory) names(d digest.Digest) bool {
	for _, x := range m.indexes {
		if slices.Contains(shared.DigestsIn(x), d) {
			return true
		}
	}
	return false
}

// Len is how many blobs there are, and how many bytes they have.
func (m *Memory) Len() (n int, size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.blobs {
		size += int64(len(b))
	}
	return len(m.blobs), size
}
