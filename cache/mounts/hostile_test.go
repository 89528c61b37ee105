package mounts

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"layered.build/builder/snapshot/object"
)

// TestDamaged finds what is not as it was packed.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), noise(1, 200_000))
	write(t, filepath.Join(dir, "b"), bytes.Repeat([]byte("text "), 100_000))
	for name, mangle := range map[string]func([]byte) []byte{
		"flipped":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"empty":     func([]byte) []byte { return nil },
		"html":      func(b []byte) []byte { return append([]byte("<html>"), b...) },
	} {
		p := &place{}
		m, _ := p.pack(t, dir, nil)
		p.mangle = mangle
		if _, err := p.restore(t, m); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChanges refuses a tree that is not what it was when it was looked at.
func TestChanges(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, file string){
		"grown":    func(t *testing.T, file string) { write(t, file, noise(2, 5000)) },
		"replaced": func(t *testing.T, file string) { must(t, os.Remove(file)); must(t, os.Symlink("/etc/passwd", file)) },
		"gone":     func(t *testing.T, file string) { must(t, os.Remove(file)) },
		"touched":  func(t *testing.T, file string) { must(t, os.Chtimes(file, time.Time{}, time.Unix(5, 0))) },
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "a"), noise(1, 4000))
		tree, err := Scan(t.Context(), dir, object.NewMaker())
		must(t, err)
		change(t, filepath.Join(dir, "a"))
		p := &place{}
		if _, _, err := tree.Pack(t.Context(), nil, p.store); !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStoreFails ends at once if a pack cannot be stored.
func TestStoreFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), noise(1, 40<<20))
	tree, err := Scan(t.Context(), dir, object.NewMaker())
	must(t, err)
	broken := errors.New("broken place")
	if _, _, err := tree.Pack(t.Context(), nil, func(context.Context, Pack, []byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &place{}
	if _, _, err := tree.Pack(ctx, nil, func(ctx context.Context, pack Pack, data []byte) error {
		cancel()
		return p.store(ctx, pack, data)
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func folder(entries ...Entry) []Entry {
	return append([]Entry{{Kind: KindDir, Parent: -1, Mode: 0o755}}, entries...)
}

// TestHostile refuses manifests that lead out of the mount, or nowhere.
func TestHostile(t *testing.T) {
	file := Entry{Name: "f", Kind: KindFile, Mode: 0o644}
	named := func(name string) Entry { e := file; e.Name = name; return e }
	sum := [32]byte{1}
	pack := []Pack{{Digest: "sha256:" + "aa00000000000000000000000000000000000000000000000000000000000000", Size: 10}}
	large := []Pack{{Digest: pack[0].Digest, Size: 9}, {Digest: pack[0].Digest, Size: 11}}
	for name, m := range map[string]*Manifest{
		"parent":        {Entries: folder(named(".."))},
		"itself":        {Entries: folder(named("."))},
		"no name":       {Entries: folder(named(""))},
		"slash":         {Entries: folder(named("../../etc/passwd"))},
		"absolute":      {Entries: folder(named("/etc"))},
		"nul":           {Entries: folder(named("a\x00b"))},
		"twice":         {Entries: folder(Entry{Name: "f", Kind: KindLink, Target: "/etc"}, named("f"))},
		"disorder":      {Entries: folder(named("b"), named("a"))},
		"below a link":  {Entries: folder(Entry{Name: "l", Kind: KindLink, Target: "/etc"}, Entry{Name: "passwd", Kind: KindFile, Parent: 1})},
		"below a file":  {Entries: folder(file, Entry{Name: "x", Kind: KindFile, Parent: 1})},
		"link forward":  {Entries: folder(Entry{Name: "a", Kind: KindHard, File: 2}, file)},
		"link a folder": {Entries: folder(Entry{Name: "a", Kind: KindHard, File: 0})},
		"link a link":   {Entries: folder(file, Entry{Name: "g", Kind: KindHard, File: 1}, Entry{Name: "h", Kind: KindHard, File: 2})},
		"device":        {Entries: folder(Entry{Name: "d", Kind: 'c'})},
		"attribute":     {Entries: folder(Entry{Name: "f", Kind: KindFile, Xattrs: map[string]string{"trusted.overlay.opaque": "y"}})},
		"own attribute": {Entries: folder(Entry{Name: "f", Kind: KindFile, Xattrs: map[string]string{"user.containers.override_stat": "0:0:04755"}})},
		"empty target":  {Entries: folder(Entry{Name: "l", Kind: KindLink})},
		"no folder":     {Entries: []Entry{{Kind: KindFile, Parent: -1}}},
		"mode":          {Entries: folder(Entry{Name: "f", Kind: KindFile, Mode: 0o100644})},
		"too few bytes": {Entries: folder(Entry{Name: "f", Kind: KindFile, Size: 9})},
		"extent":        {Entries: folder(Entry{Name: "f", Kind: KindFile, Size: 9, Sparse: true, Extents: []Extent{{5, 5}}})},
		"outside": {
			Entries: folder(Entry{Name: "f", Kind: KindFile, Size: 9}), Packs: pack,
			Chunks: []Chunk{{Digest: sum, Size: 9, Stored: 9, Offset: 5}}, Stream: []int{0},
		},
		"too many bytes": {
			Entries: folder(Entry{Name: "f", Kind: KindFile, Size: 9}), Packs: pack,
			Chunks: []Chunk{{Digest: sum, Size: 9, Stored: 9}}, Stream: []int{0, 0},
		},
		"large packs": {
			Entries: folder(Entry{Name: "f", Kind: KindFile, Size: 9}), Packs: large,
			Chunks: []Chunk{{Digest: sum, Size: 9, Stored: 9}}, Stream: []int{0},
		},
		"no chunk": {
			Entries: folder(Entry{Name: "f", Kind: KindFile, Size: 9}), Packs: pack,
			Chunks: []Chunk{{Digest: sum, Size: 9, Stored: 9}}, Stream: []int{1},
		},
	} {
		b, err := m.Encode()
		must(t, err)
		if got, err := Decode(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, %+v", name, err, got)
		}
	}
}

// FuzzManifest decodes anything: what is accepted is whole, and restoring it stays in its
// folder.
func FuzzManifest(f *testing.F) {
	dir := f.TempDir()
	write(f, filepath.Join(dir, "d/file"), noise(1, 3000))
	must(f, os.Symlink("/", filepath.Join(dir, "link")))
	must(f, os.Link(filepath.Join(dir, "d/file"), filepath.Join(dir, "z")))
	p := &place{}
	m, _ := p.pack(f, dir, nil)
	for _, m := range []*Manifest{m, {Entries: folder()}, {Entries: folder(Entry{Name: "s", Kind: KindFile, Size: 9, Sparse: true})}} {
		b, err := m.text()
		must(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parse(text)
		if err != nil {
			return
		}
		b, err := m.text()
		must(t, err)
		again, err := parse(b)
		must(t, err)
		if !reflect.DeepEqual(m, again) {
			t.Fatal("it was not read as it was written")
		}
		outer := t.TempDir()
		_ = m.Restore(t.Context(), filepath.Join(outer, "dir"), Restoring{
			Maker: object.NewMaker(), Scratch: t.TempDir(),
			Open: func(context.Context, Pack) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(noise(1, 100))), nil
			},
		})
		left, err := os.ReadDir(outer)
		must(t, err)
		if len(left) != 1 || left[0].Name() != "dir" {
			t.Fatalf("it leads out: %v", left)
		}
	})
}
