package snapshottest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// tap remembers what it is given.
type tap struct {
	tar    bytes.Buffer
	fails  bool
	writes int
	layer  snapshot.Layer
	err    error
	done   int
}

// Write implements snapshot.Tap.
func (t *tap) Write(b []byte) (int, error) {
	t.writes++
	if t.fails {
		return 0, errors.New("the tap is stuck")
	}
	return t.tar.Write(b)
}

// Done implements snapshot.Tap.
func (t *tap) Done(l snapshot.Layer, err error) { t.layer, t.err, t.done = l, err, t.done+1 }

func testTap(t *testing.T, open Opener) {
	s := open(t)
	check := func(what string, got *tap, l snapshot.Layer) {
		t.Helper()
		if got.done != 1 || got.err != nil || got.layer.ID != l.ID {
			t.Errorf("%s: told %d times of %+v, %v", what, got.done, got.layer, got.err)
		}
		if d := digest.FromBytes(got.tar.Bytes()); d != digest.Digest(l.DiffID) || int64(got.tar.Len()) != l.Size {
			t.Errorf("%s: the tap has %s, %d bytes, of %s, %d", what, d, got.tar.Len(), l.DiffID, l.Size)
		}
	}
	var a, b tap
	fill := func(r string) {
		write(t, r+"/large", random(3<<20))
		write(t, r+"/d/small", "x")
	}
	l := build(t, s, nil, snapshot.CommitOptions{Tap: &a}, fill)
	check("a commit", &a, l)
	change := func(digest digest.Digest) []snapshot.Change {
		return []snapshot.Change{{
			Entry: snapshot.Entry{Path: "f", Type: snapshot.TypeFile, Mode: 0o644, Size: 1, Digest: digest},
			Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("f")), nil },
		}}
	}
	written, err := s.WriteLayer(t.Context(), on(nil, l), change(""), snapshot.WriteOptions{Tap: &b})
	must(t, err)
	check("a written layer", &b, written)

	stuck := tap{fails: true}
	fine := build(t, s, nil, snapshot.CommitOptions{Tap: &stuck}, fill)
	if stuck.done != 1 || stuck.writes != 1 || stuck.err != nil || stuck.layer.ID != fine.ID {
		t.Errorf("a tap that fails: %d writes, told %d times of %+v, %v", stuck.writes, stuck.done, stuck.layer, stuck.err)
	}

	var bad tap
	if _, err := s.WriteLayer(t.Context(), nil, change(digest.FromString("other")), snapshot.WriteOptions{Tap: &bad}); err == nil || bad.done != 1 || bad.err == nil {
		t.Errorf("no layer: %v, told %d times, %v", err, bad.done, bad.err)
	}
	var late tap
	active, err := s.Prepare(t.Context(), nil)
	must(t, err, active.Discard())
	if _, err := active.Commit(t.Context(), snapshot.CommitOptions{Tap: &late}); err == nil || late.done != 1 || late.err == nil {
		t.Errorf("a discarded snapshot: %v, told %d times, %v", err, late.done, late.err)
	}
}

// forbids refuses a text in a name or a file.
type forbids string

// Inspect implements snapshot.Inspector.
func (f forbids) Inspect(e *snapshot.Entry) error {
	if strings.Contains(e.Path, string(f)) {
		return errors.New("a forbidden name")
	}
	return nil
}

// Content implements snapshot.Inspector.
func (f forbids) Content(*snapshot.Entry) io.Writer { return forbidsContent(f) }

type forbidsContent string

// Write implements io.Writer.
func (f forbidsContent) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(f)) {
		return 0, errors.New("forbidden content")
	}
	return len(b), nil
}

func testInspect(t *testing.T, open Opener) {
	s := open(t)
	for name, fill := range map[string]func(r string){
		"a name":                 func(r string) { write(t, r+"/hidden", "x") },
		"a small file's content": func(r string) { write(t, r+"/f", "it is hidden here") },
		"a large file's content": func(r string) { write(t, r+"/f", strings.Repeat("x", 1<<20)+"hidden") },
		"":                       func(r string) { write(t, r+"/f", "plain") },
	} {
		a, err := s.Prepare(t.Context(), nil)
		must(t, err)
		InMount(t, a.Mount(), fill)
		_, err = a.Commit(t.Context(), snapshot.CommitOptions{Inspect: forbids("hidden")})
		if (err != nil) != (name != "") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
