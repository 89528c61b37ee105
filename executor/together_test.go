package executor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

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
