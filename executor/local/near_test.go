package local

import (
	"errors"
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
	tree, err := s.worker.o.Contexts.Tree(t.Context(), &dag.LocalSource{Name: "context", Excludes: []string{"README.md"}})
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
