package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// TestNearestName: a COPY of something that does not exist says what was meant.
func TestNearestName(t *testing.T) {
	s := newSite(t)
	for _, f := range []string{"main.go", "src/app.py", "src/lib/util.py", "README.md", "deep/a/b/only.txt"} {
		s.write(t, f, "x")
	}
	tree, err := s.worker.build.Contexts.Tree(t.Context(), &dag.LocalSource{Name: "context", Excludes: []string{"README.md"}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"mian.go":         "main.go",
		"scr/app.py":      "src/app.py",
		"src/ap.py":       "src/app.py",
		"app.py":          "src/app.py",
		"src/bil/util.py": "src/lib/util.py",
		"only.txt":        "deep/a/b/only.txt",
		"readme.md":       "", // left out
		"quite/different": "",
	} {
		if got := nearest(tree, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
		var m *executor.MissingError
		_, lerr := tree.Lstat(name)
		if !errors.As(missing(tree, name, name, lerr), &m) || m.Near != want {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

// TestDanglingSource: a COPY of a symlink that leads nowhere says where.
func TestDanglingSource(t *testing.T) {
	s := newSite(t)
	s.write(t, "file", "x")
	if err := os.Symlink("/gone/away", filepath.Join(s.context, "link")); err != nil {
		t.Fatal(err)
	}
	tree, err := s.worker.build.Contexts.Tree(t.Context(), &dag.LocalSource{Name: "context"})
	if err != nil {
		t.Fatal(err)
	}
	_, lerr := tree.Lstat("gone/away")
	if err := missing(tree, "link", "gone/away", lerr); err.Error() != `"/link": not found: it is a symlink to "/gone/away", which is not there` {
		t.Error(err)
	}
}
