package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os/exec"
	"strings"
	"testing"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

func TestFileActions(t *testing.T) {
	act := func(a any) dag.Action {
		switch a := a.(type) {
		case *dag.Mkdir:
			return dag.Action{Mkdir: a}
		case *dag.Mkfile:
			return dag.Action{Mkfile: a}
		case *dag.Rm:
			return dag.Action{Rm: a}
		case *dag.Symlink:
			return dag.Action{Symlink: a}
		}
		return dag.Action{Copy: a.(*dag.Copy)}
	}
	for _, tc := range []struct {
		name    string
		actions []any
		want    string
	}{
		{"workdir", []any{&dag.Mkdir{Path: "/w/x", Mode: 0o755, MakeParents: true, Owner: &dag.Owner{User: "7"}}}, "d 755 7:7 w\nd 755 7:7 w/x\n"},
		{"workdir that exists", []any{&dag.Mkdir{Path: "/existing", Mode: 0o755, MakeParents: true}}, ""},
		{"workdir through a link", []any{&dag.Mkdir{Path: "/tolink/x", Mode: 0o755, MakeParents: true}}, "d 755 0:0 app\nd 755 0:0 app/x\n"},
		{"workdir of an unknown user", []any{&dag.Mkdir{Path: "/w", Mode: 0o755, MakeParents: true, Owner: &dag.Owner{User: "ghost"}}}, "d 755 0:0 w\n"},
		{"mkfile", []any{&dag.Mkfile{Path: "/app/f", Mode: 0o640, Data: []byte("hi")}}, "d 755 0:0 app\nf 640 0:0 app/f hi\n"},
		{"rm", []any{&dag.Rm{Path: "/existing/keep"}, &dag.Rm{Path: "/nope", AllowNotFound: true}}, "d 711 5:6 existing\nw existing/keep\n"},
		{"rm and mkdir", []any{&dag.Rm{Path: "/existing"}, &dag.Mkdir{Path: "/existing", Mode: 0o700}}, "d 700 0:0 existing opaque\n"},
		{"rm, mkdir and rm", []any{&dag.Rm{Path: "/existing"}, &dag.Mkdir{Path: "/existing/a", Mode: 0o700, MakeParents: true}, &dag.Rm{Path: "/existing"}}, "w existing\n"},
		{"rm of what was made", []any{&dag.Mkdir{Path: "/a/b", Mode: 0o700, MakeParents: true}, &dag.Rm{Path: "/a"}}, ""},
		{"rm of a directory, file in its place", []any{&dag.Rm{Path: "/existing"}, &dag.Mkfile{Path: "/existing", Mode: 0o644}}, "f 644 0:0 existing\n"},
		{"symlink", []any{&dag.Symlink{Path: "/app/l", Target: "/x"}}, "d 755 0:0 app\nl app/l /x\n"},
		{"copy into what was made", []any{&dag.Mkdir{Path: "/w", Mode: 0o700}, cp("/w", "bar")}, "d 700 0:0 w\nf 755 0:0 w/bar bar\n"},
		{"the same file twice", []any{cp("/x", "bar"), cp("/x", "foo.go")}, "f 644 0:0 x foo\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var actions []dag.Action
			for _, a := range tc.actions {
				actions = append(actions, act(a))
			}
			d, err := edit(t, memTree(t, baseFiles), []snapshot.Tree{memTree(t, contextFiles)}, actions...)
			if err != nil {
				t.Fatal(err)
			}
			if got := dump(t, d); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

// tarball makes an archive of headers; the content is the name.
func tarball(t testing.TB, headers ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, h.Name)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func xz(t *testing.T, s string) string {
	t.Helper()
	p, err := exec.LookPath("xz")
	if err != nil {
		t.Skip("needs the program xz")
	}
	cmd := exec.CommandContext(t.Context(), p, "-c")
	cmd.Stdin = strings.NewReader(s)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestUnpack(t *testing.T) {
	file := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o640, Uid: 3, Gid: 4}
	}
	archives := map[string]string{
		"simple.tar":  tarball(t, tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 3}, file("d/f"), tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f", Mode: 0o600, Uid: 5}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "d"}),
		"implied.tar": tarball(t, file("a/b/c")),
		"links.tar":   tarball(t, file("abslink/x"), file("tolink/y")),
		"escape.tar":  tarball(t, file("../../etc/evil"), tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "../../../.."}, file("out/etc/worse")),
		"replace.tar": tarball(t, file("existing"), tar.Header{Name: "file/", Typeflag: tar.TypeDir, Mode: 0o755}),
		"baselink":    tarball(t, tar.Header{Name: "n", Typeflag: tar.TypeLink, Linkname: "file", Mode: 0o711, Gid: 4}),
		"plain.txt":   "no archive",
	}
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	io.WriteString(zw, archives["implied.tar"])
	zw.Close()
	archives["implied.tgz"] = gz.String()
	archives["broken.gz"] = "\x1f\x8b\x08 not gzip"
	archives["implied.txz"] = xz(t, archives["implied.tar"])
	src := newDraft(emptyTree{})
	for name, content := range archives {
		src.put(snapshot.Entry{Path: name, Type: snapshot.TypeFile, Mode: 0o644, Size: int64(len(content))}, func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(content)), nil
		})
	}
	for _, tc := range []struct {
		name, source, dest string
		owner              *dag.Owner
		want               string
	}{
		{"entries", "simple.tar", "/app", nil, "d 755 0:0 app\nd 750 3:0 app/d\nf 600 5:0 app/d/f d/f\nh app/h app/d/f\nl app/l d"},
		{"implied parents", "implied.tar", "/new/", nil, "d 755 0:0 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 3:4 new/a/b/c a/b/c"},
		{"compressed", "implied.tgz", "/new/", nil, "d 755 0:0 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 3:4 new/a/b/c a/b/c"},
		{"compressed with xz", "implied.txz", "/new/", nil, "d 755 0:0 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 3:4 new/a/b/c a/b/c"},
		{"only begins like an archive", "broken.gz", "/x", nil, "f 644 0:0 x \x1f\x8b\x08 not gzip"},
		{"chown", "implied.tar", "/new/", &dag.Owner{User: "7", Group: "8"}, "d 755 7:8 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 7:8 new/a/b/c a/b/c"},
		{"through links of the image", "links.tar", "/", nil, "d 755 0:0 app\nf 640 3:4 app/y tolink/y\nd 711 5:6 existing\nf 640 3:4 existing/x abslink/x"},
		{"no escape", "escape.tar", "/app", nil, "d 755 0:0 app\nd 755 0:0 app/etc\nf 640 3:4 app/etc/evil ../../etc/evil\nf 640 3:4 app/etc/worse out/etc/worse\nl app/out ../../../.."},
		{"other types in place", "replace.tar", "/", nil, "f 640 3:4 existing existing\nd 755 0:0 file opaque"},
		{"hard link to the base", "baselink", "/", nil, "f 711 0:4 file file\nh n file"},
		{"not an archive", "plain.txt", "/app/", nil, "d 755 0:0 app\nf 644 0:0 app/plain.txt no archive"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := cp(tc.dest, tc.source)
			c.Unpack, c.Owner = true, tc.owner
			e := &editor{w: New(Machine{}, Build{}, dag.Grants{}), job: &executor.Job{Inputs: []executor.Result{{}, {Tree: src}}}, draft: newDraft(memTree(t, baseFiles))}
			var err error
			if e.spool, err = newSpool(t.TempDir()); err != nil {
				t.Fatal(err)
			}
			defer e.close()
			if err := e.do(t.Context(), dag.Action{Copy: c}); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(dump(t, e.draft)); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

func TestMode(t *testing.T) {
	for _, tc := range []struct {
		mode      string
		was       uint32
		file, dir uint32
	}{
		{"", 0o644, 0o644, 0o644},
		{"0", 0o644, 0, 0},
		{"4755", 0o644, 0o4755, 0o4755},
		{"go-w", 0o666, 0o644, 0o644},
		{"u=rw,g=r,o=r", 0o777, 0o644, 0o644},
		{"a+X", 0o644, 0o644, 0o755},
		{"a+X", 0o744, 0o755, 0o755},
		{"u+rw,g+r,o-x,o+w", 0o001, 0o642, 0o642},
		{"u=rwX,go=rX", 0o600, 0o644, 0o755},
		{"+x", 0o644, 0o755, 0o755},
		{"g=u", 0o640, 0o660, 0o660},
		{"u+s,g+s,+t", 0o755, 0o7755, 0o7755},
		{"a=", 0o7777, 0, 0o6000},
		{"u+x-w", 0o644, 0o544, 0o544},
	} {
		m, err := parseMode(tc.mode)
		if err != nil {
			t.Fatal(err)
		}
		if f, d := m.apply(tc.was, false), m.apply(tc.was, true); f != tc.file || d != tc.dir {
			t.Errorf("%q on %o: file %o, directory %o, want %o and %o", tc.mode, tc.was, f, d, tc.file, tc.dir)
		}
	}
	for _, bad := range []string{"64a", "u", "10000", "u+q", "u=rw,", "z+x"} {
		if _, err := parseMode(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
