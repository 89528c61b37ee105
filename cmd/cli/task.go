package cli

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/progress"
)

// task is work beside the steps, shown like one.
type task struct {
	name string
	obs  executor.Observer

	mu   sync.Mutex // guards last
	last map[string]time.Time
}

// transferPause is the time between two events about one transfer.
const transferPause = 100 * time.Millisecond

// task runs fn and shows it.
func (j *job) task(name string, fn func(*task) error) error {
	return (&task{name: name, obs: j.display.Observe}).run(fn)
}

// run runs fn and shows it.
func (t *task) run(fn func(*task) error) error {
	t.emit(executor.Event{Type: executor.EventStarted})
	if err := fn(t); err != nil {
		t.emit(executor.Event{Type: executor.EventFailed, Err: err})
		return err
	}
	t.emit(executor.Event{Type: executor.EventDone})
	return nil
}

func (t *task) emit(ev executor.Event) {
	ev.Time, ev.Task = time.Now(), t.name
	t.obs(ev)
}

// item shows one thing that is done.
func (t *task) item(text string) { t.emit(executor.Event{Type: executor.EventProgress, Item: text}) }

// transfer shows how far a transfer is; it is a registry.Progress. Of the many
// calls for one item only a few a second are passed on, and the last one.
func (t *task) transfer(item string, current, total int64) {
	now := time.Now()
	t.mu.Lock()
	if t.last == nil {
		t.last = map[string]time.Time{}
	}
	skip := current != total && now.Sub(t.last[item]) < transferPause
	if !skip {
		t.last[item] = now
	}
	t.mu.Unlock()
	if skip {
		return
	}
	t.emit(executor.Event{Type: executor.EventProgress, Item: item, Current: current, Total: total})
}

// shownTask is a task as exporters know it.
type shownTask struct{ *task }

var _ export.Task = shownTask{}

// Item implements export.Task.
func (t shownTask) Item(text string) { t.item(text) }

// Run implements export.Task.
func (t shownTask) Run(ctx context.Context, name string, fn func(context.Context, export.Task) error) error {
	return (&task{name: name, obs: t.obs}).run(func(t *task) error {
		return fn(progress.With(ctx, t.transfer), shownTask{t})
	})
}

// fetchTask shows the layers that steps need and that are fetched for them. It
// appears only if there are any.
type fetchTask struct {
	task
	started sync.Once
	any     atomic.Bool
}

// progress is a registry.Progress.
func (f *fetchTask) progress(item string, current, total int64) {
	f.started.Do(func() {
		f.any.Store(true)
		f.emit(executor.Event{Type: executor.EventStarted})
	})
	f.transfer(item, current, total)
}

// end shows that nothing more is fetched.
func (f *fetchTask) end(err error) {
	if !f.any.Load() {
		return
	}
	if err != nil {
		f.emit(executor.Event{Type: executor.EventCanceled})
		return
	}
	f.emit(executor.Event{Type: executor.EventDone})
}
