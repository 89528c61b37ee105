package executor_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// TestOneBuildMakesAStepOnce proves that a later Solve of a build takes what an earlier
// one made, also of steps that are told to run, and that another build does not.
func TestOneBuildMakesAStepOnce(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	for _, want := range []string{"alpine low mid", "high", ""} {
		top := chain("mid", "low", "mid")
		if want != "alpine low mid" {
			top = chain("mid", "low", "mid", "high")
		}
		b.rec.events = nil
		if _, err := b.Solve(t.Context(), roots(top)); err != nil {
			t.Fatal(err)
		}
		if ran := w.reset(); ran != want {
			t.Errorf("ran %q, want %q", ran, want)
		}
	}
	b.rec.check(t, 4)
	if e := b.rec.last["mid"]; e.Type != executor.EventCached || e.Reason != "made by this build before" {
		t.Errorf("the last event of mid is %+v", e)
	}
	b.solve(t, chain("mid", "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine mid" {
		t.Errorf("another build ran %q", ran)
	}
}

// TestWaitersShareTheFailure proves that a step that fails is not tried again by those
// that waited for it.
func TestWaitersShareTheFailure(t *testing.T) {
	boom := errors.New("boom")
	inside, leave := make(chan struct{}, 8), make(chan struct{})
	w := &fakeWorker{hook: func(_ context.Context, name string) error {
		if name != "base" {
			return nil
		}
		inside <- struct{}{}
		<-leave
		return boom
	}}
	b := newBench(w, &cachetest.Memory{})
	b.opts.Observer = nil
	s := executor.New(b.opts)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			_, err := s.Solve(t.Context(), roots(diamond("left")))
			var se *executor.StepError
			if !errors.As(err, &se) || se.Step.Meta.Name != "base" || !errors.Is(err, boom) {
				t.Errorf("got %v", err)
			}
		})
	}
	<-inside
	close(leave)
	wg.Wait()
}

// outputs is a process whose mount is a second output.
func outputs(name string, inputs ...*dag.Step) *dag.Step {
	s := exec(name, inputs...)
	s.Op.(*dag.Exec).Mounts[1].Output = 1
	return s
}

// TestSeveralOutputs proves that the outputs of a step are told apart by those that read
// them, also from the cache, and that each stands on its own base.
func TestSeveralOutputs(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	build := func() []dag.Edge {
		two := outputs("two", image("alpine"), image("debian"))
		first, second := exec("first"), exec("second")
		for i, s := range []*dag.Step{first, second} {
			s.Inputs = []dag.Edge{{Step: two, Output: i}}
			s.Op.(*dag.Exec).Mounts = []dag.Mount{{Type: dag.MountBind, Dest: "/"}}
		}
		if err := two.Validate(); err != nil {
			t.Fatal(err)
		}
		return []dag.Edge{{Step: first}, {Step: second}, {Step: two, Output: 1}}
	}
	var results [][]executor.Result
	for _, want := range []string{"alpine debian first second two", "alpine debian"} {
		b.Solver = executor.New(b.opts)
		res, err := b.Solve(t.Context(), build())
		if err != nil {
			t.Fatal(err)
		}
		if ran := w.reset(); ran != want {
			t.Errorf("ran %q, want %q", ran, want)
		}
		results = append(results, res)
	}
	for i, res := range results {
		if res[0].Stack[0].ID != "alpine" || res[1].Stack[0].ID != "debian" || len(res[1].Stack) != 3 {
			t.Errorf("build %d: the results stand on %s and %s", i, res[0].Stack[0].ID, res[1].Stack[0].ID)
		}
		if res[1].Stack[:2].ChainID() != res[2].Stack.ChainID() || res[0].Stack[:2].ChainID() == res[2].Stack.ChainID() {
			t.Errorf("build %d: outputs are mixed up", i)
		}
		for j := range res {
			if res[j].Stack.ChainID() != results[0][j].Stack.ChainID() {
				t.Errorf("build %d: another result %d", i, j)
			}
		}
	}
}

// TestSlotsAreShared proves that two builds together keep the bound of their process.
func TestSlotsAreShared(t *testing.T) {
	var mu sync.Mutex
	now, most := 0, 0
	both := make(chan struct{})
	w := &fakeWorker{hook: func(_ context.Context, name string) error {
		if name == "alpine" {
			return nil
		}
		mu.Lock()
		now++
		most = max(most, now)
		if now == 2 && most == 2 {
			select {
			case <-both:
			default:
				close(both)
			}
		}
		mu.Unlock()
		<-both
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}}
	slots := executor.NewSlots(2)
	var wg sync.WaitGroup
	for _, prefix := range []string{"a", "b"} {
		b := newBench(w, &cachetest.Memory{}, func(o *executor.Options) { o.Slots = slots })
		wg.Go(func() {
			var steps []*dag.Step
			for _, n := range []string{"1", "2", "3"} {
				steps = append(steps, exec(prefix+n, image("alpine")))
			}
			if _, err := b.Solve(t.Context(), roots(steps...)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 2 {
		t.Errorf("%d processes at once, want 2", most)
	}
}

// TestWhatABuildMadeStays proves that what a build has made counts although another build
// has put something else in the place of what it stands on.
func TestWhatABuildMadeStays(t *testing.T) {
	w, mem := &fakeWorker{}, &cachetest.Memory{}
	top := func() *dag.Step { return exec("top", outputs("two", image("alpine"), image("debian"))) }
	newBench(w, mem).solve(t, top())
	mem.Forget("two")
	b := newBench(w, mem)
	first := b.solve(t, top())
	w.content = map[string]string{"two": "different"}
	newBench(w, mem).solve(t, top().Inputs[0].Step)
	again, err := b.Solve(t.Context(), roots(top()))
	if err != nil {
		t.Fatal(err)
	}
	if first[0].Stack.ChainID() != again[0].Stack.ChainID() {
		t.Error("a build has two results of one step")
	}
}
