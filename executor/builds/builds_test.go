package builds

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

func TestFolder(t *testing.T) {
	store := t.TempDir()
	f := In(store)
	if b, err := f.Find(func(*Build) bool { return true }); b != nil || err != nil {
		t.Fatalf("an empty store: %v, %v", b, err)
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range kept + 3 {
		b := &Build{Started: begin.Add(time.Duration(i) * time.Minute), Dockerfile: fmt.Sprint(i)}
		if err := f.Add(b); err != nil || len(b.ID) != 12 {
			t.Fatalf("%q, %v", b.ID, err)
		}
	}
	find := func(name string) *Build {
		b, err := f.Find(func(b *Build) bool { return name == "" || b.Dockerfile == name })
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := find(""); b == nil || b.Dockerfile != fmt.Sprint(kept+2) {
		t.Errorf("the last: %+v", b)
	}
	if b := find("2"); b != nil {
		t.Errorf("not forgotten: %+v", b)
	}
	if b := find("3"); b == nil || !b.Started.Equal(begin.Add(3*time.Minute)) {
		t.Errorf("the first: %+v", b)
	}
	// What is damaged, or of another version, is passed over.
	names, err := f.names()
	if err != nil || len(names) != kept {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for i, text := range []string{`{"Version":1,`, `{"Version":2}`} {
		if err := os.WriteFile(filepath.Join(store, folder, names[i]), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b := find(""); b == nil || b.Dockerfile != fmt.Sprint(kept) {
		t.Errorf("the last that is whole: %+v", b)
	}
	c, err := f.Keeper().Items(t.Context())
	if err != nil || len(c.Items) != kept || c.Items[0].Path != "builds/"+names[0] {
		t.Errorf("%d items, %v", len(c.Items), err)
	}
}

func TestRecorder(t *testing.T) {
	base := &dag.Step{Op: &dag.Source{Image: &dag.ImageSource{Ref: "a"}}, Meta: dag.Meta{Name: "FROM a"}}
	step := func(name string) *dag.Step {
		return &dag.Step{Op: &dag.Exec{Args: []string{name}}, Inputs: []dag.Edge{{Step: base}}, Meta: dag.Meta{
			Name: name, Stage: "s", Locations: []dag.Location{{File: "Dockerfile", Start: 3, End: 4}},
		}}
	}
	ran, cached, failed, never := step("ran"), step("cached"), step("failed"), step("never")
	at := func(s int) time.Time { return time.Unix(int64(s), 0).UTC() }
	changes := make([]executor.Change, most+5)
	earlier := &cache.Record{Key: "k", Definition: "d", Created: at(1), Duration: time.Second}
	r := NewRecorder()
	for _, ev := range []executor.Event{
		{Type: executor.EventStarted, Step: base, Time: at(1)},
		{Type: executor.EventDone, Step: base, Time: at(1)},
		{Type: executor.EventLog, Time: at(1)},
		{Type: executor.EventStarted, Step: ran, Time: at(2), Lookup: &executor.Lookup{Key: "x", Reasons: []string{"why"}, Changes: changes, Earlier: earlier}},
		{Type: executor.EventDone, Step: ran, Time: at(5)},
		{Type: executor.EventCached, Step: cached, Time: at(2), Reason: "same definition", Lookup: &executor.Lookup{Key: "y"}},
		{Type: executor.EventStarted, Step: failed, Time: at(2)},
		{Type: executor.EventFailed, Step: failed, Time: at(3), Err: errors.New("exit code 1")},
	} {
		r.Observe(ev)
	}
	got := r.Steps(dag.NewGraph(dag.Edge{Step: ran}, dag.Edge{Step: cached}, dag.Edge{Step: failed}, dag.Edge{Step: never}))
	want := []Step{
		{Name: "FROM a", Result: Source, Started: at(1)},
		{Name: "ran", Result: Ran, Key: "x", Started: at(2), Duration: 3 * time.Second, Why: []string{"why"}, Changes: changes[:most], More: 5,
			Earlier: &Earlier{Key: "d", Created: at(1), Duration: time.Second}},
		{Name: "cached", Result: Cached, Key: "y", Reason: "same definition"},
		{Name: "failed", Result: Failed, Started: at(2), Duration: time.Second, Error: "exit code 1"},
		{Name: "never", Result: Canceled},
	}
	for i := range want[1:] {
		s := &want[i+1]
		s.Stage, s.Start, s.End = "s", 3, 4
		if s.Changes == nil {
			s.Changes = got[i+1].Changes // nil or empty
		}
		if s.Why == nil {
			s.Why = got[i+1].Why
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
