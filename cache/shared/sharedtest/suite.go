// Package sharedtest holds the tests that every place of a shared cache has to pass, and
// such a place in memory.
package sharedtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared"
)

// Opener opens the place that a test uses; each call gives a client of its own of the same
// place.
type Opener func() shared.Backend

// Run runs all tests. New makes an empty place.
func Run(t *testing.T, newPlace func(t *testing.T) Opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Opener)
	}{
		{"Blobs", testBlobs},
		{"Empty", testEmpty},
		{"Index", testIndex},
		{"Scopes", testScopes},
		{"Conflict", testConflict},
		{"Together", testTogether},
		{"Remove", testRemove},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newPlace(t)) })
	}
}

// NewBlob describes some bytes.
func NewBlob(b []byte) shared.Blob {
	return shared.Blob{Descriptor: ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(b), Size: int64(len(b))}}
}

// Content opens some bytes.
func Content(b []byte) shared.Content {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[offset:])), nil
	}
}

func store(t *testing.T, p shared.Backend, data []byte) shared.Blob {
	t.Helper()
	b := NewBlob(data)
	if err := p.Store(t.Context(), b, Content(data)); err != nil {
		t.Fatalf("store %d bytes: %v", len(data), err)
	}
	return b
}

func read(t *testing.T, p shared.Backend, b shared.Blob, offset int64) []byte {
	t.Helper()
	r, err := p.Open(t.Context(), b, offset)
	if err != nil {
		t.Fatalf("open %s: %v", b.Digest, err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s: %v", b.Digest, err)
	}
	return data
}

func testBlobs(t *testing.T, open Opener) {
	p := open()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MB
	none := NewBlob([]byte("none"))
	for _, data := range [][]byte{{}, []byte("small"), large} {
		b := store(t, p, data)
		store(t, open(), data) // again, by somebody else
		missing, err := p.Missing(t.Context(), []shared.Blob{b, none, b})
		if err != nil || len(missing) != 1 || missing[0].Digest != none.Digest {
			t.Errorf("%d bytes: missing %v, %v", len(data), missing, err)
		}
		for _, offset := range []int64{0, int64(len(data)) / 3} {
			if got := read(t, open(), b, offset); !bytes.Equal(got, data[offset:]) {
				t.Errorf("%d bytes from %d: got %d", len(data), offset, len(got))
			}
		}
	}
	if r, err := p.Open(t.Context(), none, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a blob that is not there: %v, %v", r, err)
	}
	if missing, err := p.Missing(t.Context(), nil); err != nil || len(missing) != 0 {
		t.Errorf("no blobs: %v, %v", missing, err)
	}
	// What gives other bytes than were promised is no success.
	broken := NewBlob([]byte("promised"))
	if err := p.Store(t.Context(), broken, func(context.Context, int64) (io.ReadCloser, error) {
		return nil, errors.New("broken source")
	}); err == nil {
		t.Error("a source that fails was stored")
	}
	if missing, err := open().Missing(t.Context(), []shared.Blob{broken}); err != nil || len(missing) != 1 {
		t.Errorf("what failed is there: %v, %v", missing, err)
	}
}

func testEmpty(t *testing.T, open Opener) {
	if b, v, err := open().Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %q, %q, %v", b, v, err)
	}
}

func testIndex(t *testing.T, open Opener) {
	p := open()
	version := ""
	blobs := []shared.Blob{}
	for i, data := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("three"), 1<<20)} {
		blobs = append(blobs, store(t, p, fmt.Append(nil, "blob", i)))
		if err := p.Replace(t.Context(), "", data, blobs, version); err != nil {
			t.Fatalf("index %d: %v", i, err)
		}
		got, v, err := open().Index(t.Context(), "")
		if err != nil || !bytes.Equal(got, data) || v == "" || v == version {
			t.Fatalf("index %d: %d bytes, version %q after %q, %v", i, len(got), v, version, err)
		}
		version = v
	}
	for _, b := range blobs {
		read(t, open(), b, 0)
	}
}

func testScopes(t *testing.T, open Opener) {
	names := []string{"", "main", "pull/7 and more", "Main", "ünï"}
	for _, name := range names {
		if err := open().Replace(t.Context(), name, []byte("of "+name), nil, ""); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
	}
	for _, name := range names {
		if got, _, err := open().Index(t.Context(), name); err != nil || string(got) != "of "+name {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}

func isLoose(p shared.Backend) bool {
	l, ok := p.(shared.Loose)
	return ok && l.Loose()
}

func testConflict(t *testing.T, open Opener) {
	p := open()
	if isLoose(p) {
		return // nothing is promised
	}
	if err := p.Replace(t.Context(), "", []byte("a"), nil, ""); err != nil {
		t.Fatal(err)
	}
	_, version, err := p.Index(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := open().Replace(t.Context(), "", []byte("b"), nil, ""); !errors.Is(err, shared.ErrConflict) {
		t.Errorf("there is one, none was expected: %v", err)
	}
	if err := open().Replace(t.Context(), "", []byte("c"), nil, version); err != nil {
		t.Fatal(err)
	}
	if err := p.Replace(t.Context(), "", []byte("d"), nil, version); !errors.Is(err, shared.ErrConflict) {
		t.Errorf("there is a later one: %v", err)
	}
	if got, _, err := p.Index(t.Context(), ""); err != nil || string(got) != "c" {
		t.Errorf("got %q, %v", got, err)
	}
}

// Several write at once: where conflicts are seen, nothing is lost.
func testTogether(t *testing.T, open Opener) {
	if isLoose(open()) {
		return
	}
	const writers, rounds = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		p := open()
		wg.Go(func() {
			for i := range rounds {
				for {
					old, version, err := p.Index(t.Context(), "s")
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
						return
					}
					err = p.Replace(t.Context(), "s", append(slices.Clone(old), byte('a'+w*rounds+i)), nil, version)
					if err == nil {
						break
					}
					if !errors.Is(err, shared.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	got, _, err := open().Index(t.Context(), "s")
	slices.Sort(got)
	if want := "abcdefghijklmnopqrst"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func testRemove(t *testing.T, open Opener) {
	p := open()
	r, ok := p.(shared.Remover)
	if !ok {
		return
	}
	gone, kept := store(t, p, []byte("gone")), store(t, p, []byte("kept"))
	if err := p.Replace(t.Context(), "", []byte(kept.Digest), []shared.Blob{kept}, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := r.Remove(t.Context(), []shared.Blob{gone, kept})
		if errors.Is(err, errors.ErrUnsupported) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if missing, err := open().Missing(t.Context(), []shared.Blob{gone, kept}); err != nil || len(missing) != 1 || missing[0].Digest != gone.Digest {
		t.Errorf("missing %v, %v", missing, err)
	}
	if string(read(t, open(), kept, 0)) != "kept" {
		t.Error("another blob was removed")
	}
}
