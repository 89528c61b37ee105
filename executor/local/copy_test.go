package local

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// memTree makes a tree from lines such as
//
//	d 755 0:0 dir
//	f 644 1:2 dir/file content
//	l link target
//	h dir/other dir/file        (hard link)
func memTree(t *testing.T, lines string) *draft {
	t.Helper()
	d := newDraft(emptyTree{})
	for line := range strings.Lines(lines) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		e := snapshot.Entry{ModTime: time.Unix(1000, 0)}
		rest := f[1:]
		if f[0] == "d" || f[0] == "f" {
			mode, err := strconv.ParseUint(f[1], 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			e.Mode = uint32(mode)
			if _, err := fmt.Sscanf(f[2], "%d:%d", &e.UID, &e.GID); err != nil {
				t.Fatal(err)
			}
			rest = f[3:]
		}
		e.Path = rest[0]
		if err := d.mkdirAll(path.Dir(e.Path), newDir(0o755, owner{}, e.ModTime)); err != nil {
			t.Fatal(err)
		}
		var content string
		if len(rest) > 1 {
			content = strings.Join(rest[1:], " ")
		}
		open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
		switch f[0] {
		case "d":
			e.Type = snapshot.TypeDir
			d.put(e, nil)
		case "f":
			e.Type, e.Size, e.Digest = snapshot.TypeFile, int64(len(content)), digest.FromString(content)
			d.put(e, open)
		case "l":
			e.Type, e.Mode, e.Linkname = snapshot.TypeSymlink, 0o777, content
			d.put(e, nil)
		case "h":
			e = d.changes[content].Entry
			first := d.changes[content]
			e.Path = rest[0]
			if !d.link(content, e, first.Open) {
				t.Fatalf("cannot link %s", e.Path)
			}
		}
	}
	return d
}

// dump shows the changes of a draft in the same form.
func dump(t *testing.T, d *draft) string {
	t.Helper()
	changes, err := d.finish()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range changes {
		e := c.Entry
		switch e.Type {
		case snapshot.TypeDir:
			opaque := ""
			if e.Opaque {
				opaque = " opaque"
			}
			fmt.Fprintf(&b, "d %o %d:%d %s%s\n", e.Mode, e.UID, e.GID, e.Path, opaque)
		case snapshot.TypeFile:
			if e.Hardlink != "" {
				fmt.Fprintf(&b, "h %s %s\n", e.Path, e.Hardlink)
				continue
			}
			r, err := c.Open()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(r)
			if err != nil || digest.FromBytes(content) != e.Digest {
				t.Errorf("%s: content %q has not digest %s: %v", e.Path, content, e.Digest, err)
			}
			fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintf("f %o %d:%d %s %s", e.Mode, e.UID, e.GID, e.Path, content)))
		case snapshot.TypeSymlink:
			fmt.Fprintf(&b, "l %s %s\n", e.Path, e.Linkname)
		default:
			fmt.Fprintf(&b, "%c %s\n", e.Type, e.Path)
		}
	}
	return b.String()
}

// edit does actions on a base; inputs 1, 2, … are the sources.
func edit(t *testing.T, base *draft, sources []snapshot.Tree, actions ...dag.Action) (*draft, error) {
	t.Helper()
	inputs := []executor.Result{{}}
	for _, s := range sources {
		inputs = append(inputs, executor.Result{Tree: s})
	}
	epoch := time.Unix(5000, 0)
	var below snapshot.Tree = emptyTree{}
	if base != nil {
		below = base
	}
	e := &editor{w: New(Machine{}, Build{Epoch: &epoch}, dag.Grants{}), job: &executor.Job{Inputs: inputs}, draft: newDraft(below)}
	defer e.close()
	for _, a := range actions {
		if err := e.do(t.Context(), a); err != nil {
			return nil, err
		}
	}
	return e.draft, nil
}

func cp(dest string, sources ...string) *dag.Copy {
	c := &dag.Copy{Input: 1, Sources: sources, Dest: dest, FollowLinks: true}
	for _, s := range sources {
		c.Wildcard = c.Wildcard || strings.ContainsAny(s, "*?[")
	}
	return c
}

const contextFiles = `
f 644 0:0 foo.go foo
f 600 0:0 foo2.go foo2
f 755 0:0 bar bar
d 700 0:0 sub
d 750 0:0 sub/dir1
f 644 0:0 sub/dir1/a a
d 755 0:0 sub/dir2
f 644 0:0 sub/dir2/b b
f 644 0:0 sub/dir2/foo dir2foo
l link-to-bar bar
l link-to-link link-to-bar
l dirlink sub/dir1
l abs /sub/dir2/b
l sub/inner ../bar
`

const baseFiles = `
d 755 0:0 etc
f 644 0:0 etc/passwd root:x:0:0::/root:/bin/sh
d 755 0:0 app
d 711 5:6 existing
f 640 5:6 existing/keep keep
d 770 5:6 existing/dir1
f 644 0:0 file file
l tolink app
l abslink /existing
l etc/newplace ../new/place
`

func TestCopy(t *testing.T) {
	own := func(c *dag.Copy, user, group string) *dag.Copy {
		c.Owner = &dag.Owner{User: user, Group: group}
		return c
	}
	chmod := func(c *dag.Copy, m string) *dag.Copy { c.Mode = m; return c }
	exclude := func(c *dag.Copy, ps ...string) *dag.Copy { c.Excludes = ps; return c }
	parents := func(c *dag.Copy) *dag.Copy { c.Parents = true; return c }
	for _, tc := range []struct {
		name string
		copy *dag.Copy
		want string
	}{
		{"file to a new name", cp("/x", "foo.go"), "f 644 0:0 x foo"},
		{"file into a directory", cp("/app/", "foo.go"), "d 755 0:0 app\nf 644 0:0 app/foo.go foo"},
		{"file into an existing directory without a slash", cp("/app", "foo.go"), "d 755 0:0 app\nf 644 0:0 app/foo.go foo"},
		{"file into a new directory", cp("/n/m/", "foo.go"), "d 755 0:0 n\nd 755 0:0 n/m\nf 644 0:0 n/m/foo.go foo"},
		{"file to a new name in a new directory", cp("/n/x", "foo.go"), "d 755 0:0 n\nf 644 0:0 n/x foo"},
		{"file over a file", cp("/file", "foo.go"), "f 644 0:0 file foo"},
		{"file into a linked directory", cp("/tolink", "foo.go"), "d 755 0:0 app\nf 644 0:0 app/foo.go foo"},
		{"file into an absolutely linked directory", cp("/abslink/", "foo.go"), "d 711 5:6 existing\nf 644 0:0 existing/foo.go foo"},
		{"link to a place that does not exist", cp("/etc/newplace/x", "foo.go"), "d 755 0:0 new\nd 755 0:0 new/place\nf 644 0:0 new/place/x foo"},
		{"directory: its contents, with a new directory of root", cp("/new", "sub/dir1"), "d 755 0:0 new\nf 644 0:0 new/a a"},
		{
			"directory into an existing one, which keeps what it is", cp("/existing", "sub"),
			"d 711 5:6 existing\nd 750 0:0 existing/dir1\nf 644 0:0 existing/dir1/a a\nd 755 0:0 existing/dir2\nf 644 0:0 existing/dir2/b b\nf 644 0:0 existing/dir2/foo dir2foo\nl existing/inner ../bar",
		},
		{"directory with a slash and a dot", cp("/new/", "sub/dir1/."), "d 755 0:0 new\nf 644 0:0 new/a a"},
		{"everything to the root", exclude(cp("/", "."), "sub", "*link*", "foo*"), "l abs /sub/dir2/b\nf 755 0:0 bar bar"},
		{"wildcard with one match is a rename", cp("/x", "foo2*"), "f 600 0:0 x foo2"},
		{"wildcard with several matches", cp("/app/", "foo*.go"), "d 755 0:0 app\nf 644 0:0 app/foo.go foo\nf 600 0:0 app/foo2.go foo2"},
		{"wildcard copies contents of matched directories", cp("/w/", "sub/dir*"), "d 755 0:0 w\nf 644 0:0 w/a a\nf 644 0:0 w/b b\nf 644 0:0 w/foo dir2foo"},
		{"wildcard in the middle", cp("/w/", "sub/*/foo"), "d 755 0:0 w\nf 644 0:0 w/foo dir2foo"},
		{"wildcard without a match", cp("/w/", "nothing*", "foo.go"), "d 755 0:0 w\nf 644 0:0 w/foo.go foo"},
		{"wildcard matches a link, which is followed", cp("/w/", "link-to-*"), "d 755 0:0 w\nf 755 0:0 w/link-to-bar bar\nf 755 0:0 w/link-to-link bar"},
		{"link as source is followed", cp("/x", "link-to-link"), "f 755 0:0 x bar"},
		{"absolute link as source stays in the root", cp("/app/", "abs"), "d 755 0:0 app\nf 644 0:0 app/abs b"},
		{"through a linked directory", cp("/x", "dirlink/a"), "f 644 0:0 x a"},
		{"wildcard through a linked directory", cp("/w/", "dirlink/*"), "d 755 0:0 w\nf 644 0:0 w/a a"},
		{"linked directory", cp("/new", "dirlink"), "d 755 0:0 new\nf 644 0:0 new/a a"},
		{"chown covers created directories", own(cp("/n/m/", "foo.go"), "7", "8"), "d 755 7:8 n\nd 755 7:8 n/m\nf 644 7:8 n/m/foo.go foo"},
		{"chown of a directory", own(cp("/new", "sub/dir1"), "7", ""), "d 755 7:7 new\nf 644 7:7 new/a a"},
		{"chown leaves an existing directory", own(cp("/existing/", "foo.go"), "root", "9"), "d 711 5:6 existing\nf 644 0:9 existing/foo.go foo"},
		{"chmod covers created directories", chmod(cp("/n/m/", "foo.go"), "0777"), "d 777 0:0 n\nd 777 0:0 n/m\nf 777 0:0 n/m/foo.go foo"},
		{"chmod of a tree", chmod(cp("/new", "sub"), "0770"), "d 770 0:0 new\nd 770 0:0 new/dir1\nf 770 0:0 new/dir1/a a\nd 770 0:0 new/dir2\nf 770 0:0 new/dir2/b b\nf 770 0:0 new/dir2/foo dir2foo\nl new/inner ../bar"},
		{"symbolic chmod", chmod(cp("/new", "sub/dir2"), "u=rwX,go="), "d 755 0:0 new\nf 600 0:0 new/b b\nf 600 0:0 new/foo dir2foo"},
		{"exclude below a directory", exclude(cp("/new", "sub"), "*/b", "dir1", "inner"), "d 755 0:0 new\nd 755 0:0 new/dir2\nf 644 0:0 new/dir2/foo dir2foo"},
		{"exclude with an exception", exclude(cp("/new", "sub"), "*", "!dir2/foo"), "d 755 0:0 new\nd 755 0:0 new/dir2\nf 644 0:0 new/dir2/foo dir2foo"},
		{"exclude everything leaves the directory", exclude(cp("/new", "sub"), "**"), "d 755 0:0 new"},
		{"exclude is relative to each match", exclude(cp("/new/", "sub/dir*"), "foo"), "d 755 0:0 new\nf 644 0:0 new/a a\nf 644 0:0 new/b b"},
		{"parents", parents(cp("/new/", "sub/dir1/a")), "d 755 0:0 new\nd 700 0:0 new/sub\nd 750 0:0 new/sub/dir1\nf 644 0:0 new/sub/dir1/a a"},
		{"parents with a pivot", parents(cp("/new/", "sub/./dir1/a")), "d 755 0:0 new\nd 750 0:0 new/dir1\nf 644 0:0 new/dir1/a a"},
		{"parents with a deep wildcard", parents(cp("/new/", "**/b")), "d 755 0:0 new\nd 700 0:0 new/sub\nd 755 0:0 new/sub/dir2\nf 644 0:0 new/sub/dir2/b b"},
		{"parents without a match", parents(cp("/new/", "**/zzz")), "d 755 0:0 new"},
		{"parents of a directory", parents(cp("/new/", "sub/dir1")), "d 755 0:0 new\nd 700 0:0 new/sub\nd 750 0:0 new/sub/dir1\nf 644 0:0 new/sub/dir1/a a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, err := edit(t, memTree(t, baseFiles), []snapshot.Tree{memTree(t, contextFiles)}, dag.Action{Copy: tc.copy})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(dump(t, d)); got != tc.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tc.want)
			}
		})
	}
}

func TestCopyErrors(t *testing.T) {
	for _, tc := range []struct {
		name string
		copy *dag.Copy
		want string
	}{
		{"missing", cp("/x", "nope"), `"/nope": not found`},
		{"missing in a directory", cp("/x", "sub/nope/y"), `"/sub/nope/y": not found`},
		{"missing beside a wildcard", cp("/x/", "foo*", "nope"), `"/nope": not found`},
		{"unknown user", func() *dag.Copy { c := cp("/x", "bar"); c.Owner = &dag.Owner{User: "ghost"}; return c }(), `user "ghost": no such name`},
		{"unknown group", func() *dag.Copy { c := cp("/x", "bar"); c.Owner = &dag.Owner{User: "root", Group: "ghost"}; return c }(), `group "ghost": no such name`},
		{"directory over a file", cp("/file", "sub"), "not a directory"},
		{"file over a directory of the tree", cp("/", "over"), "cannot replace the directory /app with a file"},
		{"below a file", cp("/file/x/", "bar"), "not a directory"},
		{"parents missing", func() *dag.Copy { c := cp("/x/", "sub/nope"); c.Parents = true; return c }(), `"/sub/nope": not found`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := edit(t, memTree(t, baseFiles), []snapshot.Tree{memTree(t, contextFiles+"f 644 0:0 over/app x\n")}, dag.Action{Copy: tc.copy})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if strings.Contains(tc.want, "not found") && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v does not match fs.ErrNotExist", err)
			}
		})
	}
}

func TestCopyNames(t *testing.T) {
	base := memTree(t, `f 644 0:0 etc/passwd daemon:x:2:3::/:/bin/sh`)
	base.remove("etc/group")
	group := "staff:x:50:\n"
	base.put(snapshot.Entry{Path: "etc/group", Type: snapshot.TypeFile, Mode: 0o644}, func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(group)), nil
	})
	for _, tc := range []struct{ user, group, want string }{
		{"daemon", "", "2:3"}, {"daemon", "staff", "2:50"}, {"12", "", "12:12"}, {"12", "staff", "12:50"}, {"daemon", "77", "2:77"},
	} {
		c := cp("/x", "bar")
		c.Owner = &dag.Owner{User: tc.user, Group: tc.group}
		d, err := edit(t, base, []snapshot.Tree{memTree(t, contextFiles)}, dag.Action{Copy: c})
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(dump(t, d)); got != "f 755 "+tc.want+" x bar" {
			t.Errorf("%s:%s: %s", tc.user, tc.group, got)
		}
	}
}

func TestCopyKeepsOwnersOfStages(t *testing.T) {
	stage := memTree(t, "d 700 100:200 dir\nd 700 100:200 dir/sub\nf 600 100:200 dir/sub/f x\n")
	c := cp("/new", "dir")
	c.KeepOwner = true
	d, err := edit(t, nil, []snapshot.Tree{stage}, dag.Action{Copy: c})
	if err != nil {
		t.Fatal(err)
	}
	want := "d 755 0:0 new\nd 700 100:200 new/sub\nf 600 100:200 new/sub/f x\n"
	if got := dump(t, d); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestHardLinks(t *testing.T) {
	src := memTree(t, "f 644 0:0 a same\nh b a\nh c a\nf 644 0:0 d same\n")
	d, err := edit(t, nil, []snapshot.Tree{src}, dag.Action{Copy: cp("/x/", ".")})
	if err != nil {
		t.Fatal(err)
	}
	want := "d 755 0:0 x\nf 644 0:0 x/a same\nh x/b x/a\nh x/c x/a\nf 644 0:0 x/d same\n"
	if got := dump(t, d); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	// If the first of them is replaced later on, the others stay together.
	d, err = edit(t, nil, []snapshot.Tree{src, memTree(t, "f 644 0:0 new other\n")},
		dag.Action{Copy: cp("/x/", ".")},
		dag.Action{Copy: &dag.Copy{Input: 2, Sources: []string{"new"}, Dest: "/x/a"}})
	if err != nil {
		t.Fatal(err)
	}
	want = "d 755 0:0 x\nf 644 0:0 x/a other\nf 644 0:0 x/b same\nh x/c x/b\nf 644 0:0 x/d same\n"
	if got := dump(t, d); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

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
func tarball(t *testing.T, headers ...tar.Header) string {
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
		"simple.tar":  tarball(t, tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 3}, file("d/f"), tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "d/f"}, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "d"}),
		"implied.tar": tarball(t, file("a/b/c")),
		"links.tar":   tarball(t, file("abslink/x"), file("tolink/y")),
		"escape.tar":  tarball(t, file("../../etc/evil"), tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "../../../.."}, file("out/etc/worse")),
		"replace.tar": tarball(t, file("existing"), tar.Header{Name: "file/", Typeflag: tar.TypeDir, Mode: 0o755}),
		"baselink":    tarball(t, tar.Header{Name: "n", Typeflag: tar.TypeLink, Linkname: "file"}),
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
		{"entries", "simple.tar", "/app", nil, "d 755 0:0 app\nd 750 3:0 app/d\nf 640 3:4 app/d/f d/f\nh app/h app/d/f\nl app/l d"},
		{"implied parents", "implied.tar", "/new/", nil, "d 755 0:0 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 3:4 new/a/b/c a/b/c"},
		{"compressed", "implied.tgz", "/new/", nil, "d 755 0:0 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 3:4 new/a/b/c a/b/c"},
		{"compressed with xz", "implied.txz", "/new/", nil, "d 755 0:0 new\nd 755 0:0 new/a\nd 755 0:0 new/a/b\nf 640 3:4 new/a/b/c a/b/c"},
		{"only begins like an archive", "broken.gz", "/x", nil, "f 644 0:0 x \x1f\x8b\x08 not gzip"},
		{"chown", "implied.tar", "/new/", &dag.Owner{User: "7", Group: "8"}, "d 755 7:8 new\nd 755 7:8 new/a\nd 755 7:8 new/a/b\nf 640 7:8 new/a/b/c a/b/c"},
		{"through links of the image", "links.tar", "/", nil, "d 755 0:0 app\nf 640 3:4 app/y tolink/y\nd 711 5:6 existing\nf 640 3:4 existing/x abslink/x"},
		{"no escape", "escape.tar", "/app", nil, "d 755 0:0 app\nd 755 0:0 app/etc\nf 640 3:4 app/etc/evil ../../etc/evil\nl app/out ../../../..\nd 755 0:0 etc\nf 640 3:4 etc/worse out/etc/worse"},
		{"other types in place", "replace.tar", "/", nil, "f 640 3:4 existing existing\nd 755 0:0 file opaque"},
		{"hard link to the base", "baselink", "/", nil, "f 644 0:0 file file\nh n file"},
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
