package local

import (
	"fmt"
	"io"
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
		if err := d.mkdirAll(path.Dir(e.Path), newDirs{mode: 0o755, at: e.ModTime}); err != nil {
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
	e := New(Machine{}, Build{Epoch: &epoch}, dag.Grants{}).newEditor(&executor.Job{Inputs: inputs}, below, len(actions))
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
