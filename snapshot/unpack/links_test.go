package unpack

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/tree"
)

// TestLinkHeaders proves that the header of a hard link speaks of the file, under all of
// its names, and that no file of a layer below is changed by that.
func TestLinkHeaders(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files are given to others")
	}
	pack := func(hs ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range hs {
			if h.Typeflag == 0 {
				h.Typeflag = tar.TypeReg
			}
			h.ModTime = h.ModTime.Add(1000 * time.Second)
			must(t, w.WriteHeader(&h))
		}
		must(t, w.Close())
		return b.Bytes()
	}
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	attr := func(k, v string) map[string]string { return map[string]string{"SCHILY.xattr.user." + k: v} }
	link := func(name, to string, h tar.Header) tar.Header {
		h.Name, h.Linkname, h.Typeflag = name, to, tar.TypeLink
		return h
	}
	below := tree.NewMerged()
	lower, _ := target(t)
	_, err := Tar(t.Context(), bytes.NewReader(pack(tar.Header{Name: "low", Mode: 0o600, Uid: 7, ModTime: at(1)})), lower)
	must(t, err)
	must(t, below.Add(lower.Manifest, lower.Dir, filepath.Join(t.TempDir(), "none")))
	to, _ := target(t)
	to.Based, to.Lower = true, func(context.Context) (tree.Tree, error) { return below, nil }
	_, err = Tar(t.Context(), bytes.NewReader(pack(
		tar.Header{Name: "a", Mode: 0o600, Uid: 5, ModTime: at(1), PAXRecords: attr("k", "1")},
		link("b", "a", tar.Header{Mode: 0o4755, Gid: 6, ModTime: at(2), PAXRecords: attr("m", "2")}),
		link("c", "b", tar.Header{Mode: 0o4711, ModTime: at(3), PAXRecords: attr("k", "3")}),
		tar.Header{Name: "same", Mode: 0o640, Uid: 5, ModTime: at(1)},
		link("same2", "same", tar.Header{Mode: 0o640, Uid: 5, ModTime: at(1)}),
		link("high", "low", tar.Header{Mode: 0o644, ModTime: at(4)}),
	)), to)
	must(t, err)
	const want = `a 4711 0:0 1003 k=3 m=2
b 4711 0:0 1003 k=3 m=2 => a
c 4711 0:0 1003 k=3 m=2 => a
high 644 0:0 1004
low 644 0:0 1004 => high
same 640 5:0 1001
same2 640 5:0 1001 => same
`
	idx, err := manifest.Open(to.Manifest)
	must(t, err)
	var listed, onDisk strings.Builder
	for i := range idx.Len() {
		r, err := idx.Record(i)
		must(t, err)
		link := ""
		if r.Hardlink != "" {
			link = " => " + r.Hardlink
			one, err := os.Stat(filepath.Join(to.Dir, r.Path))
			must(t, err)
			other, err := os.Stat(filepath.Join(to.Dir, r.Hardlink))
			must(t, err)
			if !os.SameFile(one, other) {
				t.Errorf("%s and %s are two files", r.Path, r.Hardlink)
			}
		}
		e, _, err := to.Maker.Describe(filepath.Join(to.Dir, r.Path), lstat(t, filepath.Join(to.Dir, r.Path)))
		must(t, err)
		listed.WriteString(r.Path + described(&r.Entry) + link + "\n")
		onDisk.WriteString(r.Path + described(&e) + link + "\n")
	}
	if listed.String() != want || onDisk.String() != want {
		t.Errorf("the manifest says\n%s\nthe disk\n%s\nwant\n%s", listed.String(), onDisk.String(), want)
	}
	if e, _, err := lower.Maker.Describe(filepath.Join(lower.Dir, "low"), lstat(t, filepath.Join(lower.Dir, "low"))); err != nil || described(&e) != " 600 7:0 1001" {
		t.Errorf("the file below became%s, %v", described(&e), err)
	}
}

func lstat(t *testing.T, p string) *unix.Stat_t {
	t.Helper()
	st := new(unix.Stat_t)
	must(t, unix.Lstat(p, st))
	return st
}

func described(e *manifest.Entry) string {
	s := fmt.Sprintf(" %o %d:%d %d", e.Mode, e.UID, e.GID, e.ModTime.Unix())
	for _, k := range []string{"k", "m"} {
		if v, ok := e.Xattrs["user."+k]; ok {
			s += " " + k + "=" + v
		}
	}
	return s
}
