package actions

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"layered.build/builder/cache/azblob"
)

const (
	// fresh is how long a signed address is used; the service's are valid for longer.
	fresh = 5 * time.Minute
	// poll is the pause between looks for what somebody else writes.
	poll = 500 * time.Millisecond
	// maxDead is how many entries in a row may have been left by writers that died.
	maxDead = 16
)

// entries are contents by name: of each the entry with the highest number counts.
type entries struct {
	api *api

	mu sync.Mutex
	// seen are the newest entries of names, as far as this process knows; number 0: none.
	seen map[string]entry // guarded by mu
	// patience is how long others may be waited for still.
	patience time.Duration // guarded by mu
	// failed are keys of this process's own that came to nothing: nobody writes them.
	failed map[string]bool // guarded by mu
}

// entry is one of a name.
type entry struct {
	n   int // 0: there is none
	url string
	at  time.Time
}

func (e *entries) see(name string, x entry) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen[name] = x
}

func (e *entries) last(name string) (entry, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	x, ok := e.seen[name]
	return x, ok
}

// look asks for the newest entry of a name. The service may have another idea of what is the
// newest than the numbers say: of an entry that is known to be there it is asked by its key.
func (e *entries) look(ctx context.Context, name string) (entry, error) {
	x, err := e.ask(ctx, name, name+"-")
	if err != nil {
		return x, err
	}
	if known, ok := e.last(name); ok && known.n > x.n {
		later, err := e.ask(ctx, name, numbered(name, known.n))
		if err != nil {
			return x, err
		}
		if later.n > x.n {
			x = later
		}
	}
	e.see(name, x)
	return x, nil
}

func (e *entries) ask(ctx context.Context, name, key string) (entry, error) {
	f, err := e.api.find(ctx, key)
	if err != nil || f == nil {
		return entry{}, err
	}
	return entry{numberOf(name, f.key), f.url, time.Now()}, nil
}

// open returns the newest entry's blob. The error matches fs.ErrNotExist if there is none.
// Anew asks for its address even if one is known.
func (e *entries) open(ctx context.Context, name string, anew bool) (*azblob.Signed, int, error) {
	x, ok := e.last(name)
	if anew || !ok || x.url == "" || time.Since(x.at) > fresh {
		var err error
		if x, err = e.look(ctx, name); err != nil {
			return nil, 0, err
		}
	}
	if x.n == 0 {
		return nil, 0, fmt.Errorf("look for %s: %w", name, fs.ErrNotExist)
	}
	s, err := azblob.NewSigned(x.url, name, e.api.client)
	if err != nil {
		return nil, 0, fmt.Errorf("look for %s: %w", name, err)
	}
	return s, x.n, nil
}

// reserve makes an entry of a name, whose number is the one after another. The error matches
// fs.ErrExist if there is such a one already. Numbers are left out that somebody has taken
// and who then died: nothing can be written there any more.
func (e *entries) reserve(ctx context.Context, name string, after int) (*reserved, error) {
	for n := after + 1; n <= after+maxDead; n++ {
		key := numbered(name, n)
		address, err := e.api.create(ctx, key)
		switch {
		case err == nil:
			s, err := azblob.NewSigned(address, name, e.api.client)
			if err != nil {
				return nil, fmt.Errorf("create %s: %w", key, err)
			}
			return &reserved{Signed: s, entries: e, name: name, n: n}, nil
		case !errors.Is(err, errTaken):
			return nil, err
		}
		there, err := e.await(ctx, name, n)
		if err != nil {
			return nil, err
		}
		if there {
			return nil, fmt.Errorf("create %s: %w", key, fs.ErrExist)
		}
	}
	return nil, fmt.Errorf("create %s: the next %d entries were begun and never finished", name, maxDead)
}

// await waits for what another writer is about to write: an entry of a number or a later
// one. It reports whether it came, in the time that is left for that.
func (e *entries) await(ctx context.Context, name string, n int) (bool, error) {
	key := numbered(name, n)
	for {
		x, err := e.ask(ctx, name, key)
		if err != nil {
			return false, err
		}
		if x.n >= n {
			e.see(name, x)
			return true, nil
		}
		e.mu.Lock()
		pause := min(poll, e.patience)
		if e.failed[key] {
			pause = 0
		}
		e.patience -= pause
		e.mu.Unlock()
		if pause == 0 {
			return false, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// reserved is an entry that is written. It is there when finish has succeeded.
type reserved struct {
	*azblob.Signed
	entries *entries
	name    string
	n       int
}

func (r *reserved) finish(ctx context.Context, size int64) error {
	if err := r.entries.api.finalize(ctx, numbered(r.name, r.n), size); err != nil {
		r.fail()
		return err
	}
	r.entries.see(r.name, entry{n: r.n})
	return nil
}

// fail remembers that nothing will come of it.
func (r *reserved) fail() {
	r.entries.mu.Lock()
	defer r.entries.mu.Unlock()
	r.entries.failed[numbered(r.name, r.n)] = true
}

// write makes an entry of some bytes.
func (e *entries) write(ctx context.Context, name string, after int, data []byte) error {
	r, err := e.reserve(ctx, name, after)
	if err != nil {
		return err
	}
	if err := r.Put(ctx, data); err != nil {
		r.fail()
		return err
	}
	return r.finish(ctx, int64(len(data)))
}
