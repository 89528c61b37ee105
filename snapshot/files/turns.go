package files

import (
	"context"
	"slices"
	"sync"
)

// Turns lets the goroutines of this process wait for each other by name, in the order
// in which they came and without polling. Whoever takes a turn before it waits for the
// lock of a file polls at most once a process. The zero value is ready; it is safe for
// concurrent use and must not be copied.
type Turns struct {
	mu      sync.Mutex                 // guards what follows
	waiting map[string][]chan struct{} // by name that is taken, the first one first
}

// Take waits until nobody else has the name, or until ctx ends; the error is the cause
// of ctx then. Release must be called once.
func (t *Turns) Take(ctx context.Context, name string) (release func(), err error) {
	release = func() { t.pass(name) }
	t.mu.Lock()
	queue, taken := t.waiting[name]
	if !taken {
		if t.waiting == nil {
			t.waiting = map[string][]chan struct{}{}
		}
		t.waiting[name] = nil
		t.mu.Unlock()
		return release, nil
	}
	mine := make(chan struct{})
	t.waiting[name] = append(queue, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return release, nil
	case <-ctx.Done():
		t.leave(name, mine)
		return nil, context.Cause(ctx)
	}
}

// pass gives a name to the next who waits for it.
func (t *Turns) pass(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	queue := t.waiting[name]
	if len(queue) == 0 {
		delete(t.waiting, name)
		return
	}
	t.waiting[name] = queue[1:]
	close(queue[0])
}

// leave gives a place in the queue up. If the turn has come meanwhile, the next has it.
func (t *Turns) leave(name string, mine chan struct{}) {
	t.mu.Lock()
	i := slices.Index(t.waiting[name], mine)
	if i >= 0 {
		t.waiting[name] = slices.Delete(t.waiting[name], i, i+1)
	}
	t.mu.Unlock()
	if i < 0 {
		t.pass(name)
	}
}
