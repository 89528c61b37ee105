package manifest

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a manifest and returns its file and content digest.
func write(t testing.TB, records []*Record) (string, digest.Digest) {
	t.Helper()
	p := filepath.Join(t.TempDir(), "manifest")
	w, err := Create(p)
	must(t, err)
	for _, r := range records {
		must(t, w.Add(r))
	}
	d, err := w.Finish()
	must(t, err)
	return p, d
}

// someRecords is a tree in which names come before and after "/" in byte order.
func someRecords(r *rand.Rand) []*Record {
	var all []*Record
	var below func(dir string, depth int)
	below = func(dir string, depth int) {
		for _, name := range []string{"a", "a b", "a-", "a.x", "a0", "b\x01", "ü"} {
			rec := &Record{Entry: Entry{
				Path: dir + name, Type: TypeFile, Mode: r.Uint32N(0o10000), UID: r.Uint32(), GID: r.Uint32N(3),
				ModTime: time.Unix(r.Int64N(1<<40)-1<<39, r.Int64N(1e9)),
			}}
			switch r.IntN(5) {
			case 0:
				rec.Type, rec.Linkname = TypeSymlink, "../x"
			case 1:
				rec.Type, rec.DevMajor, rec.DevMinor = TypeChar, r.Int64N(9), -1
			case 2:
				rec.Size, rec.Digest, rec.Offset = r.Int64N(1<<40), digest.FromString(name), r.Int64N(1<<40)
				rec.Xattrs = map[string]string{"user.a": "x\x00y", "user.b": ""}
			case 3:
				rec.Hardlink, rec.RealTime = "a", time.Unix(r.Int64N(1e9), 0)
			default:
				rec.Type, rec.Opaque = TypeDir, r.IntN(2) == 0
				all = append(all, rec)
				if depth < 3 {
					below(rec.Path+"/", depth+1)
				}
				continue
			}
			all = append(all, rec)
		}
	}
	below("", 0)
	slices.SortFunc(all, func(a, b *Record) int { return ComparePaths(a.Path, b.Path) })
	return append([]*Record{{Entry: Entry{Path: ".", Type: TypeDir, ModTime: time.Unix(0, 0)}}}, all...)
}

// TestRoundTrip proves that what was written is read: in order, by path and by folder.
func TestRoundTrip(t *testing.T) {
	records := someRecords(rand.New(rand.NewPCG(1, 2)))
	p, _ := write(t, records)
	x, err := Open(p)
	must(t, err)
	if x.Len() != len(records) {
		t.Fatalf("%d records instead of %d", x.Len(), len(records))
	}
	children := map[string][]string{}
	for i, want := range records {
		got, err := x.Record(i)
		must(t, err)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("record %d is\n%+v, not\n%+v", i, got, want)
		}
		if got, err = x.Find(want.Path); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("found at %q: %+v, %v", want.Path, got, err)
		}
		if want.Path != "." {
			dir := filepath.Dir(want.Path)
			children[dir] = append(children[dir], want.Path)
		}
	}
	for dir, want := range children {
		var got []string
		must(t, x.Children(dir, func(r *Record) { got = append(got, r.Path) }))
		if !slices.Equal(got, want) {
			t.Errorf("in %q are %q, not %q", dir, got, want)
		}
	}
	if _, err := x.Find("a/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such path: %v", err)
	}
	r := NewReader(x)
	n := 0
	for ; err == nil; n++ {
		_, err = r.Next()
	}
	if n != len(records)+1 || err != io.EOF {
		t.Errorf("the reader ends after %d records with %v", n-1, err)
	}
}

// TestContent proves what the content digest covers: all but times and offsets.
func TestContent(t *testing.T) {
	base := Record{Entry: Entry{Path: "f", Type: TypeFile, Mode: 0o644, Size: 1, Digest: digest.FromString("x"), ModTime: time.Unix(5, 0)}, Offset: 512}
	_, want := write(t, []*Record{&base})
	for name, c := range map[string]struct {
		change func(r *Record)
		same   bool
	}{
		"time":      {func(r *Record) { r.ModTime = time.Unix(6, 1) }, true},
		"real time": {func(r *Record) { r.RealTime = time.Unix(7, 0) }, true},
		"offset":    {func(r *Record) { r.Offset = 0 }, true},
		"path":      {func(r *Record) { r.Path = "g" }, false},
		"mode":      {func(r *Record) { r.Mode = 0o600 }, false},
		"owner":     {func(r *Record) { r.UID = 1 }, false},
		"xattr":     {func(r *Record) { r.Xattrs = map[string]string{"user.a": "b"} }, false},
		"bytes":     {func(r *Record) { r.Digest = digest.FromString("y") }, false},
	} {
		r := base
		c.change(&r)
		if _, got := write(t, []*Record{&r}); (got == want) != c.same {
			t.Errorf("%s: the same digest: %v", name, got == want)
		}
	}
}

func TestOrder(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "manifest"))
	must(t, err)
	defer w.Abort()
	must(t, w.Add(&Record{Entry: Entry{Path: "a/b"}}))
	for _, p := range []string{"a/b", "a", "."} {
		if w.Add(&Record{Entry: Entry{Path: p}}) == nil {
			t.Errorf("%q was added after a/b", p)
		}
	}
	must(t, w.Add(&Record{Entry: Entry{Path: "a-"}}))
}

// TestDamage proves that a manifest that was cut off or changed is an error, or at
// worst another manifest, and never a fault.
func TestDamage(t *testing.T) {
	p, _ := write(t, someRecords(rand.New(rand.NewPCG(3, 4)))[:20])
	data, err := os.ReadFile(p)
	must(t, err)
	bad := filepath.Join(t.TempDir(), "bad")
	for n := range len(data) {
		must(t, os.WriteFile(bad, data[:n], 0o600))
		if _, err := Open(bad); err == nil {
			t.Fatalf("%d of %d bytes were accepted", n, len(data))
		}
	}
	for n := range len(data) {
		b := slices.Clone(data)
		b[n] ^= 0x81
		must(t, os.WriteFile(bad, b, 0o600))
		x, err := Open(bad)
		for i := 0; err == nil && i < x.Len(); i++ {
			_, err = x.Record(i)
		}
		if err == nil {
			x.Find("a/a")
		}
	}
}

func TestTimes(t *testing.T) {
	epoch := time.Unix(100, 0)
	for _, c := range []struct{ real, want, kept int64 }{{50, 50, 0}, {100, 100, 0}, {150, 100, 150}} {
		var e Entry
		e.Limit(time.Unix(c.real, 0), &epoch)
		kept := int64(0)
		if !e.RealTime.IsZero() {
			kept = e.RealTime.Unix()
		}
		if e.ModTime.Unix() != c.want || kept != c.kept || e.TrueTime().Unix() != c.real {
			t.Errorf("%d under an epoch: %+v", c.real, e)
		}
	}
}

func TestValidPath(t *testing.T) {
	for _, p := range []string{".", "", "/", "a", "a/b", "/a", "a/", "a//b", "a/./b", "../a", "a/..", "..", "...", "a/.b", "a\\b", "ü"} {
		if got := ValidPath(p); got != fs.ValidPath(p) {
			t.Errorf("%q: %v", p, got)
		}
	}
	if !ValidPath("a/\xff") || ValidPath("\xff/..") {
		t.Error("names that are not UTF-8 count as others do")
	}
}
