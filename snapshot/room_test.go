package snapshot_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"layered.build/builder/snapshot"
)

// smallRoom lets in what fits, and looks at how large the store is whenever it is asked.
type smallRoom struct {
	root string
	size int64

	mu      sync.Mutex
	let     int64 // and kept
	pending int64
	largest int64 // of the store, on disk
	guesses []bool
}

var errFull = errors.New("full")

func (r *smallRoom) Grow(_ context.Context, n int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.look()
	if r.let+n > r.size {
		return errFull
	}
	r.let, r.pending = r.let+n, r.pending+n
	return nil
}

func (r *smallRoom) Guess(ctx context.Context, n int64) (bool, error) {
	ok := r.Grow(ctx, n) == nil
	r.guesses = append(r.guesses, ok)
	return ok, nil
}

func (r *smallRoom) Settle(let, written int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.let, r.pending = r.let+written-let, r.pending-let
}

func (r *smallRoom) look() {
	var total int64
	filepath.WalkDir(r.root, func(p string, _ fs.DirEntry, err error) error { //nolint:errcheck // files come and go
		var st syscall.Stat_t
		if err == nil && syscall.Lstat(p, &st) == nil {
			total += st.Blocks * 512
		}
		return nil
	})
	r.largest = max(r.largest, total)
}

// A guess that does not fit refuses nothing: a layer is unpacked as long as there is
// room, which is asked for before it is taken.
func TestGuessedRoom(t *testing.T) {
	const mib = 1 << 20
	var many []tarEntry
	for i := range 40 {
		many = append(many, ent('0', "f"+string(rune('A'+i)), strings.Repeat("x", mib)))
	}
	tiny := make([]tarEntry, 0, 12_000)
	for i := range cap(tiny) {
		tiny = append(tiny, ent('0', "d"+string(rune('a'+i%20))+"/"+strings.Repeat("n", i/1000+1)+string(rune(0x4e00+i)), "y"))
	}
	plain := makeTar(t, many...)
	for _, c := range []struct {
		name  string
		layer *remote
		size  int64
		guess bool
		fails bool
	}{
		{"the guess fits", gz(plain), 200 * mib, true, false},
		{"too large a guess", &remote{blob: plain, tar: plain}, 90 * mib, false, false},
		{"too small a guess", gz(plain), 60 * mib, true, false},
		{"no room", gz(plain), 24 * mib, true, true},
		{"no room, and a guess that says so", &remote{blob: plain, tar: plain}, 60 * mib, false, true},
		{"files smaller than a block", gz(makeTar(t, tiny...)), 30 * mib, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t)
			room := &smallRoom{root: s.Root(), size: c.size}
			s.SetRoom(room)
			stack := addAll(t, s, c.layer)
			err := s.Materialize(t.Context(), stack)
			if c.fails != errors.Is(err, errFull) || !c.fails && err != nil {
				t.Fatalf("materialize: %v", err)
			}
			if len(room.guesses) != 1 || room.guesses[0] != c.guess {
				t.Errorf("guesses: %v", room.guesses)
			}
			room.look()
			const chunk = 10 * mib
			if room.largest > c.size+chunk {
				t.Errorf("the store had %d bytes, allowed were %d", room.largest, c.size)
			}
			if room.pending != 0 {
				t.Errorf("%d bytes are pending for ever", room.pending)
			}
			if c.fails && room.let != 0 {
				t.Errorf("%d bytes count that were removed", room.let)
			}
			if !c.fails && (room.let < 40*mib || room.let > 90*mib) {
				t.Errorf("%d bytes count", room.let)
			}
		})
	}
}

// What another process has let in counts, what it had open only while it lives.
func TestAccount(t *testing.T) {
	dir := t.TempDir()
	open := func() *snapshot.Store {
		s, err := snapshot.Open(dir, snapshot.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	with := func(s *snapshot.Store, fn func(*snapshot.Account, string)) (total, pending int64) {
		t.Helper()
		if err := s.WithAccount(t.Context(), func(a *snapshot.Account, owner string) error {
			fn(a, owner)
			total, pending = a.Total(), a.Pending()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return total, pending
	}
	look := func(*snapshot.Account, string) {}
	one, two := open(), open()
	with(one, func(a *snapshot.Account, _ string) { a.Measured(1000, *a) })
	with(one, func(a *snapshot.Account, o string) { a.Enter(o, 100) })
	with(two, func(a *snapshot.Account, o string) { a.Enter(o, 10); a.Settle(o, 4, 3) })
	if total, pending := with(one, look); total != 1109 || pending != 106 {
		t.Errorf("total %d, pending %d", total, pending)
	}
	// While two measures, one lets in and writes: that may not have been found.
	var before snapshot.Account
	with(two, func(a *snapshot.Account, _ string) { before = *a })
	with(one, func(a *snapshot.Account, o string) { a.Enter(o, 50); a.Settle(o, 50, 50) })
	with(two, func(a *snapshot.Account, _ string) { a.Measured(900, before) })
	if total, pending := with(one, look); total != 900+106+50 || pending != 106 {
		t.Errorf("after measuring: total %d, pending %d", total, pending)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, pending := with(two, look); pending != 6 {
		t.Errorf("a process that has ended has %d bytes open", pending-6)
	}
	if err := os.WriteFile(filepath.Join(dir, "room.json"), []byte(`{"Us`), 0o600); err != nil {
		t.Fatal(err)
	}
	if total, _ := with(two, look); total != 0 {
		t.Errorf("a damaged account says %d", total)
	}
}
