package executor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// fakeWorker "runs" an Exec by making one layer whose content depends on the
// command and on the content of the inputs, unless content says otherwise.
type fakeWorker struct {
	mu      sync.Mutex
	ran     []string
	serial  int
	content map[string]string // by command
	hook    func(ctx context.Context, name string) error
	local   string // content of the build context
	denied  string // the command that is not allowed
	found   map[string][]cache.Finding
}

func (w *fakeWorker) Allow(step *dag.Step) error {
	if w.denied != "" && step.Meta.Name == w.denied {
		return executor.ErrNotAllowed
	}
	return nil
}

func (w *fakeWorker) InputDigest(ctx context.Context, step *dag.Step, input int, res executor.Result) (digest.Digest, []cache.Part, error) {
	if res.Stack == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		return digest.FromString(w.local), []cache.Part{{Name: "src/a.go", Value: w.local}}, nil
	}
	return res.Stack.Content(), nil, nil
}

func (w *fakeWorker) Run(ctx context.Context, job *executor.Job) (*executor.Outcome, error) {
	name := job.Step.Meta.Name
	w.mu.Lock()
	w.ran = append(w.ran, name)
	w.serial++
	id := fmt.Sprintf("layer %d", w.serial)
	content, fixed := w.content[name]
	hook := w.hook
	w.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, name); err != nil {
			return nil, err
		}
	}
	if src, ok := job.Step.Op.(*dag.Source); ok {
		if src.Local != nil {
			return &executor.Outcome{Results: make([]executor.Result, 1)}, nil
		}
		id = name // an image has the same layers every time
	}
	if !fixed {
		content = name
		for _, in := range job.Inputs {
			content += " " + string(in.Stack.Content())
		}
	}
	out := &executor.Outcome{Findings: w.found[name]}
	for i := range job.Step.Outputs() {
		if i > 0 {
			id, content = fmt.Sprint(id, "/", i), fmt.Sprint(content, "/", i)
		}
		l := snapshot.Layer{ID: snapshot.LayerID(id), DiffID: snapshot.DiffID(digest.FromString(id)), Content: digest.FromString(content)}
		stack := snapshot.Stack{l}
		if i < len(job.Inputs) {
			stack = append(slices.Clone(job.Inputs[i].Stack), l)
		}
		out.Results = append(out.Results, executor.Result{Stack: stack})
	}
	return out, nil
}

// reset forgets what ran and returns it, sorted.
func (w *fakeWorker) reset() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ran := slices.Clone(w.ran)
	w.ran = nil
	slices.Sort(ran)
	return strings.Join(ran, " ")
}

// recorder keeps the events of steps.
type recorder struct {
	mu     sync.Mutex
	events map[string][]executor.EventType
	last   map[string]executor.Event
}

func (r *recorder) observe(e executor.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events == nil {
		r.events, r.last = map[string][]executor.EventType{}, map[string]executor.Event{}
	}
	r.events[e.Step.Meta.Name] = append(r.events[e.Step.Meta.Name], e.Type)
	r.last[e.Step.Meta.Name] = e
}

// check fails unless every step has one last event, at the end.
func (r *recorder) check(t *testing.T, steps int) {
	t.Helper()
	if len(r.events) != steps {
		t.Errorf("events of %d steps, want %d: %v", len(r.events), steps, r.events)
	}
	for name, types := range r.events {
		for i, typ := range types {
			final := slices.Contains([]executor.EventType{executor.EventCached, executor.EventDone, executor.EventFailed, executor.EventCanceled}, typ)
			if final != (i == len(types)-1) {
				t.Errorf("%s: events %v", name, types)
				break
			}
		}
	}
}

func image(ref string) *dag.Step {
	return &dag.Step{Op: &dag.Source{Image: &dag.ImageSource{Ref: ref, Digest: digest.FromString(ref).String()}}, Meta: dag.Meta{Name: ref}}
}

func local() *dag.Step {
	return &dag.Step{Op: &dag.Source{Local: &dag.LocalSource{Name: "context"}}, Meta: dag.Meta{Name: "context"}}
}

// exec runs on its first input; the others are mounted.
func exec(name string, inputs ...*dag.Step) *dag.Step {
	op := &dag.Exec{Args: []string{name}}
	s := &dag.Step{Op: op, Meta: dag.Meta{Name: name}}
	for i, in := range inputs {
		s.Inputs = append(s.Inputs, dag.Edge{Step: in})
		dest := "/"
		if i > 0 {
			dest = fmt.Sprint("/", i)
		}
		op.Mounts = append(op.Mounts, dag.Mount{Type: dag.MountBind, Input: i, Dest: dest})
	}
	return s
}

func roots(steps ...*dag.Step) []dag.Edge {
	var out []dag.Edge
	for _, s := range steps {
		out = append(out, dag.Edge{Step: s})
	}
	return out
}

// bench is a series of builds; Solver is that of the latest.
type bench struct {
	*executor.Solver
	opts executor.Options
	w    *fakeWorker
	rec  *recorder
	mem  *cachetest.Memory
}

func newBench(w *fakeWorker, mem *cachetest.Memory, set ...func(*executor.Options)) *bench {
	b := &bench{w: w, rec: &recorder{}, mem: mem}
	o := executor.Options{Cache: mem, Locker: mem, Worker: w, Observer: b.rec.observe}
	for _, f := range set {
		f(&o)
	}
	b.opts = o
	b.Solver = executor.New(o)
	return b
}

// solve is a build.
func (b *bench) solve(t *testing.T, steps ...*dag.Step) []executor.Result {
	t.Helper()
	b.Solver = executor.New(b.opts)
	b.rec.events = nil
	res, err := b.Solve(t.Context(), roots(steps...))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// diamond returns base -> (left, right) -> top; every call makes new steps.
func diamond(left string) *dag.Step {
	base := exec("base", image("alpine"))
	return exec("top", exec(left, base), exec("right", base))
}
