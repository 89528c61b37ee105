// Package task shows work that is no step of a build like one: loading a context, looking
// for an image, writing what was made.
package task

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"layered.build/builder/executor"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/progress"
)

// Task is work that an observer is told of. It is safe for concurrent use.
type Task struct {
	name string
	obs  executor.Observer

	mu   sync.Mutex // guards last
	last map[string]time.Time
}

var _ export.Task = (*Task)(nil)

// pause is the time between two events about one transfer.
const pause = 100 * time.Millisecond

// Run runs fn as a task, with a context that tells it of transfers (package progress).
func Run(ctx context.Context, obs executor.Observer, name string, fn func(context.Context, *Task) error) error {
	t := &Task{name: name, obs: obs}
	t.emit(executor.Event{Type: executor.EventStarted})
	if err := fn(progress.With(ctx, t.transfer), t); err != nil {
		t.emit(executor.Event{Type: executor.EventFailed, Err: err})
		return err
	}
	t.emit(executor.Event{Type: executor.EventDone})
	return nil
}

// Run implements export.Task: fn is a task of its own.
func (t *Task) Run(ctx context.Context, name string, fn func(context.Context, export.Task) error) error {
	return Run(ctx, t.obs, name, func(ctx context.Context, t *Task) error { return fn(ctx, t) })
}

func (t *Task) emit(ev executor.Event) {
	ev.Time, ev.Task = time.Now(), t.name
	t.obs(ev)
}

// Item shows one thing that is done.
func (t *Task) Item(text string) { t.emit(executor.Event{Type: executor.EventProgress, Item: text}) }

// transfer shows how far a transfer is. Of the many calls for one item only a few a second
// are passed on, and the last one.
func (t *Task) transfer(item string, current, total int64) {
	now := time.Now()
	t.mu.Lock()
	if t.last == nil {
		t.last = map[string]time.Time{}
	}
	skip := current != total && now.Sub(t.last[item]) < pause
	if !skip {
		t.last[item] = now
	}
	t.mu.Unlock()
	if skip {
		return
	}
	t.emit(executor.Event{Type: executor.EventProgress, Item: item, Current: current, Total: total})
}

// Lazy is a task that appears only if there are transfers.
type Lazy struct {
	task    Task
	started sync.Once
	any     atomic.Bool
}

// NewLazy returns a task with a name.
func NewLazy(obs executor.Observer, name string) *Lazy {
	return &Lazy{task: Task{name: name, obs: obs}}
}

// With returns a context that tells the task of transfers.
func (l *Lazy) With(ctx context.Context) context.Context {
	return progress.With(ctx, func(item string, current, total int64) {
		l.started.Do(func() {
			l.any.Store(true)
			l.task.emit(executor.Event{Type: executor.EventStarted})
		})
		l.task.transfer(item, current, total)
	})
}

// End shows that there are no more transfers; the error is that of the work as a whole.
func (l *Lazy) End(err error) {
	switch {
	case !l.any.Load():
	case err != nil:
		l.task.emit(executor.Event{Type: executor.EventCanceled})
	default:
		l.task.emit(executor.Event{Type: executor.EventDone})
	}
}
