package executor_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeWorker "runs" an Exec by making one layer whose content depends on the
// command and on the content of the inputs, unless content says otherwise.
type fakeWorker struct {
	mu      sync.Mutex
	ran     []string
	serial  int
	content map[string]string // by command
	hook    func(ctx context.Context, name string) error
	local   string // content of the build context
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
	out := &executor.Outcome{}
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

func TestRunOnceThenCached(t *testing.T) {
	b := newBench(&fakeWorker{}, &cachetest.Memory{})
	first := b.solve(t, diamond("left"))
	b.rec.check(t, 5)
	if ran := b.w.reset(); ran != "alpine base left right top" {
		t.Errorf("first build ran %q", ran)
	}
	top := diamond("left")
	second := b.solve(t, top)
	b.rec.check(t, 5)
	if ran := b.w.reset(); ran != "alpine" {
		t.Errorf("second build ran %q", ran)
	}
	if first[0].Stack.ChainID() != second[0].Stack.ChainID() {
		t.Error("another result from the cache")
	}
	if r, ok := b.Result(top.Inputs[0]); !ok || len(r.Stack) != 3 {
		t.Errorf("result of an inner step: %v, %v", r, ok)
	}
}

func TestDefinitionChange(t *testing.T) {
	b := newBench(&fakeWorker{}, &cachetest.Memory{})
	b.solve(t, diamond("left"))
	b.w.reset()
	b.solve(t, diamond("other"))
	if ran := b.w.reset(); ran != "alpine other top" {
		t.Errorf("ran %q", ran)
	}
}

func TestEarlyCutOff(t *testing.T) {
	w := &fakeWorker{content: map[string]string{"left": "same", "other": "same"}}
	b := newBench(w, &cachetest.Memory{})
	b.solve(t, diamond("left"))
	w.reset()
	b.solve(t, diamond("other"))
	b.rec.check(t, 5)
	if ran := w.reset(); ran != "alpine other" {
		t.Errorf("ran %q", ran)
	}
	if r := b.rec.last["top"].Reason; r != "inputs with the same content" {
		t.Errorf("reason %q", r)
	}
	// The hit is recorded under the new definition as well: without the layers of
	// "other", which alone lead to the content, top is found all the same.
	b.solve(t, diamond("other"))
	if r := b.rec.last["top"].Reason; r != "same definition" {
		t.Errorf("third build: reason %q", r)
	}
}

// check that every result begins with the layers of its base: images are made of
// the results of a chain of steps.
func (b *bench) checkChain(t *testing.T, top *dag.Step) {
	t.Helper()
	for s := top; len(s.Inputs) > 0; s = s.Inputs[0].Step {
		upper, ok := b.Result(dag.Edge{Step: s})
		lower, ok2 := b.Result(s.Inputs[0])
		if !ok || !ok2 {
			t.Errorf("no result of %s or its base", s.Meta.Name)
			return
		}
		if n := len(lower.Stack); len(upper.Stack) != n+1 || upper.Stack[:n].ChainID() != lower.Stack.ChainID() {
			t.Errorf("%s does not stand on its base", s.Meta.Name)
		}
	}
}

func chain(noCache string, names ...string) *dag.Step {
	s := image("alpine")
	for _, name := range names {
		s = exec(name, s)
		s.Meta.NoCache = name == noCache
	}
	return s
}

func TestResultsStandOnTheirBases(t *testing.T) {
	w := &fakeWorker{}
	mem := &cachetest.Memory{}
	b := newBench(w, mem)
	b.solve(t, chain("", "a", "b", "c", "d"))
	w.reset()
	// b makes the same content again, in another layer.
	top := chain("b", "a", "b", "c", "d")
	b.solve(t, top)
	if ran := w.reset(); ran != "alpine b" {
		t.Errorf("ran %q", ran)
	}
	b.checkChain(t, top)
	top = chain("", "a", "b", "c", "d")
	b = newBench(w, mem)
	b.solve(t, top)
	if ran := w.reset(); ran != "alpine" {
		t.Errorf("ran %q", ran)
	}
	b.checkChain(t, top)
}

// A build that ended after it had replaced the record of b leaves those of c and d
// as they were.
func TestRecordsOfAnInterruptedBuild(t *testing.T) {
	for _, content := range []string{"", "different"} {
		w := &fakeWorker{}
		mem := &cachetest.Memory{}
		newBench(w, mem).solve(t, chain("", "a", "b", "c", "d"))
		if content != "" {
			w.content = map[string]string{"b": content}
		}
		newBench(w, mem).solve(t, chain("b", "a", "b"))
		w.reset()
		top := chain("", "a", "b", "c", "d")
		b := newBench(w, mem)
		b.solve(t, top)
		want := "alpine"
		if content != "" {
			want = "alpine c d"
		}
		if ran := w.reset(); ran != want {
			t.Errorf("b made content %q: ran %q, want %q", content, ran, want)
		}
		b.checkChain(t, top)
	}
}

func TestResultOfAStepWithoutRecord(t *testing.T) {
	w := &fakeWorker{}
	mem := &cachetest.Memory{}
	b := newBench(w, mem)
	b.solve(t, chain("", "a", "b", "c"))
	w.reset()
	mem.Forget("b")
	top := chain("", "a", "b", "c")
	b = newBench(w, mem)
	b.solve(t, top)
	b.rec.check(t, 4)
	if ran := w.reset(); ran != "alpine" {
		t.Errorf("ran %q", ran)
	}
	b.checkChain(t, top)
}

func TestLocalContent(t *testing.T) {
	w := &fakeWorker{local: "v1"}
	b := newBench(w, &cachetest.Memory{})
	build := func() *dag.Step { return exec("make", image("alpine"), local()) }
	b.solve(t, build())
	w.reset()
	b.solve(t, build())
	b.rec.check(t, 3)
	if ran := w.reset(); ran != "alpine context" {
		t.Errorf("unchanged context: ran %q", ran)
	}
	w.local = "v2"
	b.Solver = executor.New(b.opts)
	plan, err := b.Plan(t.Context(), roots(build()))
	if err != nil {
		t.Fatal(err)
	}
	if p := plan[2]; p.Verdict != executor.VerdictRun || p.Reason != "src/a.go changed" || len(p.Changed) != 1 {
		t.Errorf("plan: %+v", p)
	}
	w.reset()
	b.solve(t, build())
	if ran := w.reset(); ran != "alpine context make" {
		t.Errorf("changed context: ran %q", ran)
	}
}

func TestNoCache(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	b.solve(t, chain("", "low", "mid", "high"))
	w.reset()
	b.solve(t, chain("mid", "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine mid" {
		t.Errorf("same output: ran %q", ran)
	}
	w.content = map[string]string{"mid": "new"}
	b.solve(t, chain("mid", "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine high mid" {
		t.Errorf("other output: ran %q", ran)
	}
	b.solve(t, chain("", "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine" {
		t.Errorf("afterwards: ran %q", ran)
	}
}

func TestLayersGone(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	res := b.solve(t, diamond("left"))
	w.reset()
	b.mem.Drop(res[0].Stack[len(res[0].Stack)-1].ID)
	b.solve(t, diamond("left"))
	if ran := w.reset(); ran != "alpine top" {
		t.Errorf("ran %q", ran)
	}
}

func TestVerify(t *testing.T) {
	w := &fakeWorker{}
	mem := &cachetest.Memory{}
	newBench(w, mem).solve(t, diamond("left"))
	w.reset()
	w.content = map[string]string{"right": "not deterministic"}
	b := newBench(w, mem, func(o *executor.Options) { o.Verify = true })
	b.solve(t, diamond("left"))
	b.rec.check(t, 5)
	if ran := w.reset(); ran != "alpine base left right top" {
		t.Errorf("ran %q", ran)
	}
	for name, types := range b.rec.events {
		if got := slices.Contains(types, executor.EventWarning); got != (name == "right") {
			t.Errorf("%s: events %v", name, types)
		}
	}
}

func TestFailure(t *testing.T) {
	boom := errors.New("boom")
	w := &fakeWorker{}
	started := make(chan struct{})
	w.hook = func(ctx context.Context, name string) error {
		switch name {
		case "left":
			<-started
			return &executor.StepError{Err: boom, ExitCode: 7}
		case "right":
			close(started)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}
	b := newBench(w, &cachetest.Memory{})
	_, err := b.Solve(t.Context(), roots(diamond("left")))
	var se *executor.StepError
	if !errors.As(err, &se) || !errors.Is(err, boom) || se.ExitCode != 7 || se.Step.Meta.Name != "left" {
		t.Errorf("error %#v", err)
	}
	b.rec.check(t, 5)
	for name, want := range map[string]executor.EventType{
		"base": executor.EventDone, "left": executor.EventFailed,
		"right": executor.EventCanceled, "top": executor.EventCanceled,
	} {
		if got := b.rec.last[name].Type; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestCancel(t *testing.T) {
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	w := &fakeWorker{hook: func(ctx context.Context, name string) error {
		if name == "base" {
			cancel(why)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}}
	b := newBench(w, &cachetest.Memory{})
	if _, err := b.Solve(ctx, roots(diamond("left"))); err != why {
		t.Errorf("error %v", err)
	}
	b.rec.check(t, 5)
	if got := b.rec.last["base"].Type; got != executor.EventCanceled {
		t.Errorf("base: %s", got)
	}
}

// Solves of one build at once run shared steps once, and cancelling the one that runs them
// leaves the other to finish.
func TestTwoSolves(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := b.Solve(t.Context(), roots(diamond("left"))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if ran := w.reset(); ran != "alpine base left right top" {
		t.Errorf("ran %q", ran)
	}
}

func TestSurvivorOfCancelledSolve(t *testing.T) {
	first, cancel := context.WithCancel(t.Context())
	running := make(chan struct{})
	var once sync.Once
	w := &fakeWorker{}
	w.hook = func(ctx context.Context, name string) error {
		if name != "base" {
			return nil
		}
		mine := false
		once.Do(func() { mine = true })
		if mine {
			close(running)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}
	b := newBench(w, &cachetest.Memory{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.Solve(first, roots(diamond("left"))); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled Solve: %v", err)
		}
	})
	<-running
	wg.Go(func() {
		if _, err := b.Solve(t.Context(), roots(diamond("left"))); err != nil {
			t.Errorf("other Solve: %v", err)
		}
	})
	cancel()
	wg.Wait()
}

// lockStep is a Locker whose locks another build holds until freed.
type lockStep struct {
	cache.Locker
	freed chan struct{}
}

func (l lockStep) Lock(ctx context.Context, key cache.Key) (func(), error) {
	select {
	case <-l.freed:
		return l.Locker.Lock(ctx, key)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func TestWaitingIsTold(t *testing.T) {
	mem := &cachetest.Memory{}
	freed := make(chan struct{})
	var told executor.Event
	b := newBench(&fakeWorker{}, mem, func(o *executor.Options) {
		o.Locker = lockStep{mem, freed}
		o.Observer = func(e executor.Event) {
			if e.Type == executor.EventLog {
				told = e
				close(freed)
			}
		}
	})
	b.solve(t, exec("base", image("alpine")))
	if !strings.Contains(string(told.Data), "waiting for another build") || told.Step.Meta.Name != "base" {
		t.Errorf("told %+v", told)
	}
}

func TestParallelism(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	gate := make(chan struct{}, 100)
	w := &fakeWorker{hook: func(ctx context.Context, name string) error {
		if name == "alpine" || name == "end" {
			return nil
		}
		mu.Lock()
		now++
		most = max(most, now)
		if now == 2 { // both are inside: let everybody go
			for range 8 {
				gate <- struct{}{}
			}
		}
		mu.Unlock()
		<-gate
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}}
	b := newBench(w, &cachetest.Memory{}, func(o *executor.Options) { o.Parallelism = 2 })
	var steps []*dag.Step
	for i := range 8 {
		steps = append(steps, exec(fmt.Sprint("s", i), image("alpine")))
	}
	b.solve(t, exec("end", steps...))
	if most != 2 {
		t.Errorf("%d processes at once, want 2", most)
	}
}

func TestPlan(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	verdicts := func(top *dag.Step) string {
		t.Helper()
		b.Solver = executor.New(b.opts)
		plan, err := b.Plan(t.Context(), roots(top))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, p := range plan {
			out = append(out, p.Step.Meta.Name+":"+string(p.Verdict))
		}
		return strings.Join(out, " ")
	}
	if got := verdicts(diamond("left")); got != "alpine:source base:run left:maybe run right:maybe run top:maybe run" {
		t.Errorf("empty cache: %s", got)
	}
	w.reset()
	b.solve(t, diamond("left"))
	w.reset()
	if got := verdicts(diamond("left")); got != "alpine:source base:cached left:cached right:cached top:cached" {
		t.Errorf("full cache: %s", got)
	}
	if got := verdicts(diamond("other")); got != "alpine:source base:cached other:run right:cached top:maybe run" {
		t.Errorf("one step is new: %s", got)
	}
	if ran := w.reset(); ran != "alpine alpine" {
		t.Errorf("planning ran %q", ran)
	}
}

func TestScratchAndBadOutput(t *testing.T) {
	b := newBench(&fakeWorker{}, &cachetest.Memory{})
	res, err := b.Solve(t.Context(), []dag.Edge{{}})
	if err != nil || len(res) != 1 || res[0].Stack != nil {
		t.Errorf("scratch: %v, %v", res, err)
	}
	if _, err := b.Solve(t.Context(), []dag.Edge{{Step: exec("x"), Output: 3}}); err == nil {
		t.Error("output 3 exists")
	}
}
