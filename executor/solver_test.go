package executor_test

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
	if got := b.Differing(); len(got) != 1 || got[0] != "right" {
		t.Errorf("differing: %q", got)
	}
}

// TestVerifyByContent verifies also what is found by the content of its inputs.
func TestVerifyByContent(t *testing.T) {
	w := &fakeWorker{content: map[string]string{"low": "same", "other low": "same"}}
	mem := &cachetest.Memory{}
	newBench(w, mem).solve(t, chain("", "low", "high"))
	w.reset()
	b := newBench(w, mem, func(o *executor.Options) { o.Verify = true })
	w.content["high"] = "not deterministic"
	b.solve(t, chain("", "other low", "high"))
	if ran := w.reset(); ran != "alpine high other low" || len(b.Differing()) != 1 {
		t.Errorf("ran %q, differing %q", ran, b.Differing())
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
