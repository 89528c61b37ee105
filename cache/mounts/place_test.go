package mounts

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/object"
)

// place keeps packs in memory.
type place struct {
	mu     sync.Mutex // guards packs
	packs  map[digest.Digest][]byte
	mangle func([]byte) []byte // what is read; nil: as it is
}

func (p *place) store(_ context.Context, pack Pack, data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.packs == nil {
		p.packs = map[digest.Digest][]byte{}
	}
	p.packs[pack.Digest] = bytes.Clone(data)
	return nil
}

func (p *place) open(_ context.Context, pack Pack) (io.ReadCloser, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	data, ok := p.packs[pack.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if p.mangle != nil {
		data = p.mangle(bytes.Clone(data))
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pack packs a folder; the manifest has been written and read.
func (p *place) pack(t testing.TB, dir string, known *Known) (*Manifest, Moved) {
	t.Helper()
	tree, err := Scan(t.Context(), dir, object.NewMaker())
	must(t, err)
	m, moved, err := tree.Pack(t.Context(), known, p.store)
	must(t, err)
	b, err := m.Encode()
	must(t, err)
	m, err = Decode(b)
	must(t, err)
	return m, moved
}

// restore makes a new folder.
func (p *place) restore(t testing.TB, m *Manifest) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	scratch := t.TempDir()
	err := m.Restore(t.Context(), dir, Restoring{Open: p.open, Maker: object.NewMaker(), Scratch: scratch})
	left, rerr := os.ReadDir(scratch)
	must(t, rerr)
	if err == nil && len(left) > 0 {
		t.Errorf("packs are left: %v", left)
	}
	return dir, err
}

// noise is what does not become smaller.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

func write(t testing.TB, name string, data []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0o755))
	must(t, os.WriteFile(name, data, 0o644))
}

func usable(Pack) bool { return true }
