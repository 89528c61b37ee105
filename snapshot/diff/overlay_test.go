package diff

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lay makes objects of a list like "d/ f=text -gone o/!": a folder, a file, a whiteout,
// an opaque folder; and "f=>g", a hard link. All have one time, which none had before.
func lay(t *testing.T, dir, list string) {
	t.Helper()
	m := object.NewMaker()
	must(t, os.MkdirAll(dir, 0o755))
	items := strings.Fields(list)
	for _, item := range items {
		name, text, isFile := strings.Cut(item, "=")
		p := filepath.Join(dir, strings.Trim(name, "-/!"))
		switch {
		case strings.HasPrefix(text, ">"):
			must(t, os.Link(filepath.Join(dir, text[1:]), p))
		case isFile:
			must(t, os.WriteFile(p, []byte(text), 0o644))
		case strings.HasPrefix(item, "-"):
			if err := m.Create(p, &manifest.Entry{Type: manifest.TypeWhiteout}); err != nil {
				t.Skipf("no whiteouts can be made here: %v", err)
			}
		default:
			must(t, os.Mkdir(p, 0o755))
			if strings.HasSuffix(item, "!") {
				must(t, m.MarkOpaque(p))
			}
		}
	}
	for i := len(items) - 1; i >= 0; i-- {
		name, _, _ := strings.Cut(items[i], "=")
		if !strings.HasPrefix(name, "-") {
			must(t, os.Chtimes(filepath.Join(dir, strings.Trim(name, "/!")), time.Time{}, time.Unix(1000, 5)))
		}
	}
}

// found runs a walk over an upper directory and settles it.
func found(t *testing.T, u Upper) string {
	t.Helper()
	var out []string
	d := Overlay(u)
	must(t, d.Walk(t.Context(), func(it pack.Item) error {
		e := &it.Record.Entry
		s := string(e.Type) + e.Path
		if e.Hardlink != "" {
			s += "=>" + e.Hardlink
		}
		if e.Type != manifest.TypeWhiteout && e.ModTime.Nanosecond() != 0 {
			t.Errorf("%s has a time of %v", s, e.ModTime)
		}
		out = append(out, s)
		return nil
	}))
	for _, a := range d.Aliases() {
		out = append(out, "+"+a.Path+"=>"+a.Entry)
	}
	must(t, d.Settle())
	return strings.Join(out, " ")
}

func TestOverlay(t *testing.T) {
	for _, c := range []struct{ name, lower, upper, want, gone string }{
		{"new", "", "d/ d/f=1 g=2", "dd fd/f fg", ""},
		{"changed", "d/ d/f=1", "d/ d/f=22", "dd fd/f", ""},
		{"copied up only", "d/ d/f=1 g=2", "d/ d/f=1", "", "d d/f"},
		{"below a copied one", "d/ d/f=1", "d/ d/new=2", "dd fd/new", ""},
		{"removed", "d/ d/f=1 g=2", "d/ -d/f -g -never", "dd wd/f wg", "never"},
		{"opaque", "d/ d/f=1 d/g=2", "d/! d/g=2 d/h=3", "dd wd/f fd/h", ""},
		{"other type", "d=file e/ e/f=1", "d/ d/x=1 e=file", "dd fd/x fe", ""},
		{"link to what is below", "d/ d/f=1 d/g=2", "d/ d/f=1 d/g=2 new=>d/f", "fnew +d/f=>new", "d/g"},
		{"link to what is below, beside", "d/ d/f=1", "d/ d/f=1 d/a=>d/f", "dd fd/a +d/f=>d/a", ""},
		{"names that were copied up together", "d/ d/f=1 d/g=1", "d/ d/f=1 d/g=>d/f", "", "d d/f d/g"},
		{"links", "f=1", "a=1 b=>a c/ c/d=>a", "fa fb=>a dc fc/d=>a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := t.TempDir()
			u := Upper{Maker: object.NewMaker(), Dir: filepath.Join(at, "upper"), Lowers: []string{filepath.Join(at, "lower")}}
			lay(t, u.Lowers[0], c.lower)
			lay(t, u.Dir, c.upper)
			if got := found(t, u); got != c.want {
				t.Errorf("found %s, not %s", got, c.want)
			}
			for p := range strings.FieldsSeq(c.gone) {
				if _, err := os.Lstat(filepath.Join(u.Dir, p)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s is in no entry and still there: %v", p, err)
				}
			}
		})
	}
}

// TestEpoch proves that what is newer than the epoch gets its time, on disk too.
func TestEpoch(t *testing.T) {
	at := t.TempDir()
	epoch := time.Unix(500, 0)
	u := Upper{Maker: object.NewMaker(), Dir: filepath.Join(at, "upper"), Epoch: &epoch}
	lay(t, u.Dir, "d/ d/f=1")
	must(t, os.Chtimes(filepath.Join(u.Dir, "d/f"), time.Time{}, time.Unix(400, 0)))
	if got := found(t, u); got != "dd fd/f" {
		t.Errorf("found %s", got)
	}
	for p, want := range map[string]int64{"d": 500, "d/f": 400} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(u.Dir, p), &st))
		if st.Mtim.Sec != want || st.Mtim.Nsec != 0 {
			t.Errorf("%s has time %v, not %d", p, st.Mtim, want)
		}
	}
}

func TestRemoveStubs(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	lay(t, dir, "a/ a/b/ a/b/mount/ full/ full/x=1 file= text=1")
	must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	lay(t, outside, "victim/")
	must(t, RemoveStubs(dir, []string{"a", "a/b", "a/b/mount", "full", "file", "text", "out/victim", "none", ".", "../x"}))
	for p, want := range map[string]bool{"a": false, "full/x": true, "file": false, "text": true, "out/victim": true} {
		if _, err := os.Stat(filepath.Join(dir, p)); (err == nil) != want {
			t.Errorf("%s: %v", p, err)
		}
	}
}
