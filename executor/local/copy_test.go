package local

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

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
		// As in BuildKit, a name that the image does not know changes nothing.
		{"ghost", "", "0:0"}, {"ghost", "staff", "0:50"}, {"ghost", "7", "0:7"}, {"daemon", "ghost", "2:3"}, {"12", "ghost", "12:12"}, {"", "ghost", "0:0"},
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
