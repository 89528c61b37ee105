package local

import (
	"archive/tar"
	"io"
	"path"
	"strings"
	"testing"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// FuzzUnpack adds any bytes as an archive, as ADD does with what a context or a server
// holds: an error, or changes whose paths lead nowhere else, each once and below a
// directory.
func FuzzUnpack(f *testing.F) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	link := func(name, target string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
	}
	for _, hs := range [][]tar.Header{
		{file("a/b"), link("l", "a"), file("l/c")},
		{file("../evil"), link("up", ".."), file("up/evil")},
		{link("l", "/"), file("l/evil"), {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/evil"}},
		{{Name: "d", Typeflag: tar.TypeDir, Mode: 0o700}, {Name: "p", Typeflag: tar.TypeFifo}, file("d")},
		{{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b", "path": "../../evil"}}},
	} {
		data := tarball(f, hs...)
		f.Add([]byte(data))
		f.Add([]byte(data[:len(data)/3]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := newDraft(emptyTree{})
		src.put(snapshot.Entry{Path: "a.tar", Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(data))}, func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(string(data))), nil
		})
		c := cp("/dest/", "a.tar")
		c.Unpack = true
		e := &editor{w: New(Machine{}, Build{}, dag.Grants{}), job: &executor.Job{Inputs: []executor.Result{{}, {Tree: src}}}, draft: newDraft(memTree(t, baseFiles))}
		var err error
		if e.spool, err = newSpool(t.TempDir()); err != nil {
			t.Fatal(err)
		}
		defer e.close()
		if e.do(t.Context(), dag.Action{Copy: c}) != nil {
			return
		}
		changes, err := e.draft.finish()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, ch := range changes {
			p := ch.Entry.Path
			if clean := strings.TrimPrefix(path.Clean("/"+p), "/"); p != clean || seen[p] {
				t.Errorf("the path %q leads elsewhere, or stands twice", p)
			}
			seen[p] = true
			if dir := path.Dir(p); dir != "." {
				if parent, err := e.draft.Lstat(dir); err != nil || parent.Type != snapshot.TypeDir {
					t.Errorf("%q lies in no directory: %v", p, err)
				}
			}
		}
	})
}
