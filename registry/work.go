package registry

import (
	"context"
	"errors"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// works are pieces of work that have names and make blobs. Each is done at most once at a
// time, whoever asks for it, and success is remembered.
type works struct {
	mu     sync.Mutex
	byName map[string]*work // guarded by mu
}

// work is one piece of work that several callers may want at once.
type work struct {
	done chan struct{}
	desc ocispec.Descriptor // valid after done
	err  error              // valid after done
}

// once does a piece of work unless that has been done. A caller that waited for one that
// was cancelled does the work itself.
func (ws *works) once(ctx context.Context, name string, f func() (ocispec.Descriptor, error)) (ocispec.Descriptor, error) {
	for {
		w, mine := ws.claim(name)
		if mine {
			return ws.run(name, w, f)
		}
		select {
		case <-ctx.Done():
			return ocispec.Descriptor{}, context.Cause(ctx)
		case <-w.done:
		}
		if w.err == nil || !errors.Is(w.err, context.Canceled) {
			return w.desc, w.err
		}
	}
}

// claim begins a piece of work, which the caller runs, unless somebody does it or has
// done it.
func (ws *works) claim(name string) (w *work, mine bool) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.byName[name]; w != nil {
		return w, false
	}
	w = &work{done: make(chan struct{})}
	ws.byName[name] = w
	return w, true
}

// run does what has been claimed.
func (ws *works) run(name string, w *work, f func() (ocispec.Descriptor, error)) (ocispec.Descriptor, error) {
	w.desc, w.err = f()
	if w.err != nil {
		ws.forget(name)
	}
	close(w.done)
	return w.desc, w.err
}

// forget lets a piece of work be done again.
func (ws *works) forget(name string) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	delete(ws.byName, name)
}
