package executor_test

import (
	"context"
	"testing"
	"time"

	"layered.build/builder/cache"
	"layered.build/builder/cache/cachetest"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

// aging is a cache whose records became older.
type aging struct {
	*cachetest.Memory
	by    time.Duration
	other *aging   // what others have
	asked []string // of other
}

func (a *aging) Get(ctx context.Context, key cache.Key) (*cache.Record, error) {
	rec, err := a.Memory.Get(ctx, key)
	if err == nil {
		rec.Created = rec.Created.Add(-a.by)
	}
	return rec, err
}

// GetSince is that of a cache that asks others too.
func (a *aging) GetSince(ctx context.Context, key cache.Key, since time.Time) (*cache.Record, error) {
	if a.other == nil {
		return nil, cache.ErrMiss
	}
	rec, err := a.other.Get(ctx, key)
	if err != nil || !rec.Created.After(since) {
		return nil, cache.ErrMiss
	}
	a.asked = append(a.asked, rec.Step)
	return rec, nil
}

// aged is a chain of steps, of which some may use results of a certain age only.
func aged(limits map[string]time.Duration, names ...string) *dag.Step {
	top := chain("", names...)
	for _, s := range dag.NewGraph(dag.Edge{Step: top}).Steps {
		s.Meta.MaxAge = limits[s.Meta.Name]
	}
	return top
}

// TestMaxAge proves that a step whose result is too old runs, although later steps are
// cached, and that these run only if it made something else.
func TestMaxAge(t *testing.T) {
	w := &fakeWorker{}
	c := &aging{Memory: &cachetest.Memory{}}
	b := newBench(w, c.Memory, func(o *executor.Options) { o.Cache = c })
	day := map[string]time.Duration{"mid": 24 * time.Hour}
	b.solve(t, aged(day, "low", "mid", "high"))
	w.reset()
	c.by = 23 * time.Hour
	b.solve(t, aged(day, "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine" {
		t.Errorf("young enough: ran %q", ran)
	}
	c.by = 25 * time.Hour
	b.solve(t, aged(nil, "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine" {
		t.Errorf("without a limit: ran %q", ran)
	}
	plan, err := executor.New(b.opts).Plan(t.Context(), roots(aged(day, "low", "mid", "high")))
	if err != nil {
		t.Fatal(err)
	}
	if p := plan[2]; p.Verdict != executor.VerdictRun || p.Reason != "the result is 25 hours old, and may be 1d" {
		t.Errorf("plan: %s, %s", p.Verdict, p.Reason)
	}
	w.reset()
	b.solve(t, aged(day, "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine mid" {
		t.Errorf("same output: ran %q", ran)
	}
	w.content = map[string]string{"mid": "new"}
	b.solve(t, aged(day, "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine high mid" {
		t.Errorf("other output: ran %q", ran)
	}
	c.by = 0 // the records of now
	b.solve(t, aged(day, "low", "mid", "high"))
	if ran := w.reset(); ran != "alpine" {
		t.Errorf("afterwards: ran %q", ran)
	}
}

// TestMaxAgeElsewhere proves that others are asked for a younger record.
func TestMaxAgeElsewhere(t *testing.T) {
	w := &fakeWorker{}
	c := &aging{Memory: &cachetest.Memory{}}
	b := newBench(w, c.Memory, func(o *executor.Options) { o.Cache = c })
	limit := map[string]time.Duration{"low": time.Hour, "high": 10 * time.Hour}
	b.solve(t, aged(limit, "low", "high"))
	w.reset()
	c.by, c.other = 5*time.Hour, &aging{Memory: c.Memory}
	b.solve(t, aged(limit, "low", "high"))
	if ran := w.reset(); ran != "alpine" || len(c.asked) != 1 || c.asked[0] != "low" {
		t.Errorf("ran %q, asked for %q", ran, c.asked)
	}
}

// TestReasonAfterFresh proves that a step is not said to have lost its layers where one
// before it was told to run again and made something else.
func TestReasonAfterFresh(t *testing.T) {
	w := &fakeWorker{}
	b := newBench(w, &cachetest.Memory{})
	reasons := map[string]string{}
	b.opts.Observer = func(e executor.Event) {
		if e.Type == executor.EventStarted {
			reasons[e.Step.Meta.Name] = e.Reason
		}
	}
	b.solve(t, chain("", "low", "high"))
	w.content = map[string]string{"low": "new"}
	b.solve(t, chain("low", "low", "high"))
	if reasons["low"] != "told to run again" || reasons["high"] != "the result of low changed" {
		t.Errorf("reasons: %q", reasons)
	}
}
