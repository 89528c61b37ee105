package engine_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/cmd/engine"
)

const mib = 1 << 20

// write stores a blob of so many bytes, none of them like another's.
func write(t *testing.T, e *engine.Engine, seed byte, bytes int) {
	t.Helper()
	w, err := e.Store.Blobs().Writer(t.Context())
	if err != nil {
		t.Error(err)
		return
	}
	defer w.Close()
	chunk := make([]byte, 1<<16)
	for i := range chunk {
		chunk[i] = byte(i) ^ seed
	}
	for n := 0; n < bytes; n += len(chunk) {
		if _, err := w.Write(chunk[:min(len(chunk), bytes-n)]); err != nil {
			t.Error(err)
			return
		}
	}
	if _, err := w.Commit(""); err != nil {
		t.Error(err)
	}
}

// size is how large the store is.
func size(t *testing.T, e *engine.Engine) int64 {
	t.Helper()
	n, err := e.Collector().Size(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What several engines of a process write counts once in the account, whether room was
// asked for or not, whatever the budget is; and a prune measures it anew.
func TestAccountOfEngines(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"default": {"BUILDER_MIN_FREE_SPACE": "1b"},
		"hard":    {"BUILDER_MIN_FREE_SPACE": "1b", "BUILDER_MAX_USED_SPACE": "1g"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, t.TempDir(), env)
			closed(t, open(t, h)) // so that the store is not new
			watch := open(t, h)
			defer closed(t, watch)
			first := open(t, h)
			write(t, first, 1, 2*mib)
			closed(t, first)
			measured := watch.Store.Account()
			if n := size(t, watch); measured.Checked.IsZero() || !near(measured.Total(), n) {
				t.Fatalf("measured were %+v, the disk has %d", measured, n)
			}
			var engines sync.WaitGroup
			for i := range 3 {
				e := open(t, h)
				engines.Go(func() {
					write(t, e, byte(10+i), 20*mib)
					write(t, e, byte(20+i), 3*mib) // less than what is asked for
					e.Collect(t.Context())
					write(t, e, byte(30+i), mib)
					closed(t, e)
				})
			}
			engines.Wait()
			a := watch.Store.Account()
			if n := size(t, watch); !near(a.Total(), n) || a.Pending() != 0 || a.Let < 60*mib {
				t.Errorf("the account says %+v, the disk has %d", a, n)
			}
			nothing := collect.PruneOptions{Match: func(collect.Item) bool { return false }}
			if _, err := watch.Collector().Prune(t.Context(), nothing); err != nil {
				t.Fatal(err)
			}
			pruned := watch.Store.Account()
			if n := size(t, watch); !near(pruned.Used, n) || pruned.Let != 0 || !pruned.Checked.After(a.Checked) {
				t.Errorf("after a prune the account says %+v, the disk has %d", pruned, n)
			}
		})
	}
}

// near leaves room for folders and what is small.
func near(a, b int64) bool { return max(a-b, b-a) < mib/2 }

// Who writes nothing leaves the account as it is; so does who only looks at what is there.
func TestNothingWritten(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"default": {"BUILDER_MIN_FREE_SPACE": "1b"},
		"hard":    {"BUILDER_MIN_FREE_SPACE": "1b", "BUILDER_MAX_USED_SPACE": "1g"},
	} {
		h := newHost(t, t.TempDir(), env)
		closed(t, open(t, h))
		file := filepath.Join(h.Root(), "room.json")
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a process that wrote nothing made an account: %v", name, err)
		}
		e := open(t, h)
		l := writeLayer(t, e.Store, "dir")
		closed(t, e)
		var before, after unix.Stat_t
		if err := unix.Stat(file, &before); err != nil {
			t.Fatalf("%s: there is no account: %v", name, err)
		}
		e = open(t, h)
		if !e.Store.Has(l.ID) {
			t.Errorf("%s: the layer is gone", name)
		}
		e.Collect(t.Context()) // as at the start of a build
		closed(t, e)
		if err := unix.Stat(file, &after); err != nil || before.Ino != after.Ino || before.Mtim != after.Mtim {
			t.Errorf("%s: a process that wrote nothing wrote the account, %v", name, err)
		}
	}
}
