package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"layered.build/builder/executor"
	"layered.build/builder/executor/rootless/rootlesstest"
	"layered.build/builder/planner/dag"
)

func TestMain(m *testing.M) {
	rootlesstest.Enter()
	goleak.VerifyTestMain(m)
}

func TestCopyIsCachedByContent(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "src/a.go", "a")
	s.write(t, "src/b.go", "b")
	s.write(t, "other", "o")
	build := func() *dag.Step { return copyStep(scratchStep(), cp("/app/", "src")) }
	first := s.solve(t, build())
	if got := s.files(t, first.Stack); got != "app/a.go=a app/b.go=b base=b" || len(first.Stack) != 2 {
		t.Fatalf("files of %d layers: %s", len(first.Stack), got)
	}
	at := func(name string) string { return filepath.Join(s.context, name) }
	long := time.Unix(1, 0)
	for _, tc := range []struct {
		name   string
		change func() error
		want   executor.EventType
	}{
		{"nothing", func() error { return nil }, executor.EventCached},
		{"another file", func() error { return os.WriteFile(at("other"), nil, 0o644) }, executor.EventCached},
		{"only times", func() error { return os.Chtimes(at("src/a.go"), long, long) }, executor.EventCached},
		{"content", func() error { return os.WriteFile(at("src/a.go"), []byte("A"), 0o644) }, executor.EventDone},
		{"content, back again", func() error { return os.WriteFile(at("src/a.go"), []byte("a"), 0o644) }, executor.EventCached},
		{"name", func() error { return os.Rename(at("src/a.go"), at("src/c.go")) }, executor.EventDone},
		{"mode", func() error { return os.Chmod(at("src/b.go"), 0o755) }, executor.EventDone},
		{"new empty directory", func() error { return os.Mkdir(at("src/d"), 0o755) }, executor.EventDone},
	} {
		if err := tc.change(); err != nil {
			t.Fatal(err)
		}
		s.reopen(t)
		s.solve(t, build())
		if got := s.events["copy"].Type; got != tc.want {
			t.Errorf("%s changed: %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestWildcardKey(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "file1", "1")
	s.write(t, "file2", "2")
	s.write(t, "readme", "r")
	build := func() *dag.Step { return copyStep(scratchStep(), cp("/app/", "file*")) }
	s.solve(t, build())
	s.write(t, "readme", "changed")
	s.reopen(t)
	s.solve(t, build())
	if got := s.events["copy"].Type; got != executor.EventCached {
		t.Errorf("a file that does not match changed: %s", got)
	}
	if err := os.Rename(filepath.Join(s.context, "file2"), filepath.Join(s.context, "file3")); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	plan, err := s.newBuild().Plan(t.Context(), []dag.Edge{{Step: build()}})
	if err != nil {
		t.Fatal(err)
	}
	if why := plan[len(plan)-1].Reason; why != "file3 is new, file2 is gone" {
		t.Errorf("reason %q", why)
	}
	if res := s.solve(t, build()); s.files(t, res.Stack) != "app/file1=1 app/file3=2 base=b" {
		t.Errorf("after a rename: %s", s.files(t, res.Stack))
	}
}

func TestMissingSource(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "secret.txt", "x")
	ctx := step("context", &dag.Source{Local: &dag.LocalSource{Name: "context", Excludes: []string{"*.txt"}}})
	for name, pattern := range map[string]string{"nope": "", "secret.txt": "*.txt"} {
		c := step("copy", &dag.File{Base: true, Actions: []dag.Action{{Copy: cp("/x", name)}}}, scratchStep(), ctx)
		_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: c}})
		var se *executor.StepError
		var m *executor.MissingError
		if !errors.As(err, &se) || se.Step != c || !errors.As(err, &m) || m.Path != name || m.Pattern != pattern {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWorkdirThatExists(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	mk := func(base *dag.Step) *dag.Step {
		return step("workdir", &dag.File{Base: true, Actions: []dag.Action{{Mkdir: &dag.Mkdir{Path: "/w", Mode: 0o755, MakeParents: true}}}}, base)
	}
	once := s.solve(t, mk(scratchStep()))
	twice := s.solve(t, mk(mk(scratchStep())))
	if len(once.Stack) != 2 || once.Stack[1].Empty || len(twice.Stack) != 3 || !twice.Stack[2].Empty {
		t.Errorf("layers %+v, then %+v", once.Stack, twice.Stack)
	}
}

func TestMergeAndDiff(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	s.write(t, "f", "f")
	files := step("files", &dag.File{Actions: []dag.Action{{Copy: &dag.Copy{Input: 0, Sources: []string{"f"}, Dest: "/app/f"}}}}, contextStep())
	linked := step("link", &dag.Merge{}, scratchStep(), files)
	res := s.solve(t, linked)
	if got := s.files(t, res.Stack); got != "app/f=f base=b" {
		t.Errorf("merge: %s", got)
	}
	again := s.solve(t, step("again", &dag.Merge{}, scratchStep(), linked))
	if again.Stack.ChainID() != res.Stack.ChainID() {
		t.Errorf("what the stacks have in common is repeated")
	}
	d := s.solve(t, step("diff", &dag.Diff{}, scratchStep(), linked))
	if got := s.files(t, d.Stack); got != "app/f=f" {
		t.Errorf("diff: %s", got)
	}
}
