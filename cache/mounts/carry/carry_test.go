package carry_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"layered.build/builder/cache/cachetest"
	"layered.build/builder/cache/mounts"
	"layered.build/builder/cache/mounts/carry"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/snapshot/object"
)

// No test leaves a goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is one of those that share a place.
type machine struct {
	*carry.Carrier
	session *shared.Session
	mu      sync.Mutex // guards told
	told    []string
}

func (m *machine) tell(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, text)
}

func newMachine(p shared.Backend, change func(*carry.Options)) *machine {
	m := &machine{}
	all := shared.Select{All: true}
	o := carry.Options{
		Maker: object.NewMaker(), Tell: m.tell,
		Hold: func(string) (func() error, error) { return func() error { return nil }, nil },
		Find: func(ctx context.Context, n shared.MountName, key string) ([]*shared.FoundMount, error) {
			return m.session.Mounts(ctx, n, key)
		},
	}
	if change != nil {
		change(&o)
	}
	m.Carrier = carry.New(o)
	m.session = shared.New(shared.Options{
		Local: &cachetest.Memory{}, Tell: m.tell, Mounts: m.Carrier,
		From: []shared.Source{{Backend: p, From: shared.From{Mounts: all}}},
		To:   []shared.Target{{Backend: p, To: shared.To{Mounts: all}}},
	})
	return m
}

func name(id, key string) carry.Name {
	return carry.Name{MountName: shared.MountName{ID: id, Platform: "linux/amd64"}, Key: key}
}

func folder(t *testing.T, files ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mount")
	must(t, os.Mkdir(dir, 0o755))
	for _, f := range files {
		must(t, os.WriteFile(filepath.Join(dir, f), []byte(strings.Repeat("content of "+f+"\n", 10_000)), 0o644))
	}
	return dir
}

// send has a machine send a folder.
func send(t *testing.T, p shared.Backend, n carry.Name, dir string) *machine {
	t.Helper()
	m := newMachine(p, nil)
	m.Used(n, dir, true)
	must(t, m.session.Finish(t.Context(), nil))
	return m
}

// restore restores a mount, and lists its files.
func (m *machine) restore(t *testing.T, n carry.Name) (string, bool) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	ok, err := m.Restore(t.Context(), n, dir)
	must(t, err)
	entries, err := os.ReadDir(dir)
	if !ok && errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	must(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " "), ok
}

// TestNoRoom does not restore what the store has no room for: that is told, and no error.
func TestNoRoom(t *testing.T) {
	p := &sharedtest.Memory{}
	send(t, p, name("m", ""), folder(t, "a"))
	var asked, scratch int64
	m := newMachine(p, func(o *carry.Options) {
		o.Grow = func(_ context.Context, bytes, packs int64) (func(error), error) {
			asked, scratch = bytes, packs
			return nil, errors.New("no room in the store")
		}
	})
	if got, ok := m.restore(t, name("m", "")); ok || asked != 130_000 || scratch <= 0 || scratch > asked || len(m.told) != 1 || !strings.Contains(m.told[0], "no room") {
		t.Errorf("%q, %v, asked for %d and %d, told %q", got, ok, asked, scratch, m.told)
	}
	if _, ok := m.restore(t, name("m", "")); ok || len(m.told) != 1 {
		t.Errorf("it was tried again: %q", m.told)
	}
	m = newMachine(p, func(o *carry.Options) {
		o.Grow = func(context.Context, int64, int64) (func(error), error) {
			return func(err error) {
				if err != nil {
					t.Errorf("it was not written: %v", err)
				}
				asked = 0
			}, nil
		}
	})
	if got, ok := m.restore(t, name("m", "")); got != "a" || !ok || asked != 0 {
		t.Errorf("%q, %v", got, ok)
	}
}

// TestNext takes the next content if the best one is damaged, and sends it anew.
func TestNext(t *testing.T) {
	p := &sharedtest.Memory{}
	send(t, p, name("m", "old"), folder(t, "old"))
	send(t, p, name("m", "new"), folder(t, "new"))
	var spoil digest.Digest
	m := newMachine(p, nil)
	found, err := m.session.Mounts(t.Context(), name("m", "").MountName, "new")
	must(t, err)
	spoil = found[0].Packs[0].Digest
	p.Mangle = func(d digest.Digest, b []byte) []byte {
		if d == spoil {
			b[len(b)-1] ^= 1
		}
		return b
	}
	if got, ok := m.restore(t, name("m", "new")); got != "old" || !ok || len(m.told) != 1 {
		t.Errorf("%q, %v, told %q", got, ok, m.told)
	}
	p.Damage() // all of it; so it must be sent anew
	p.Mangle = nil
	m.Used(name("m", "new"), folder(t, "new"), true)
	must(t, m.session.Finish(t.Context(), nil))
	if got, ok := newMachine(p, nil).restore(t, name("m", "new")); got != "new" || !ok {
		t.Errorf("%q, %v", got, ok)
	}
}

// TestSilent asks nothing more of a place that fails otherwise.
func TestSilent(t *testing.T) {
	p := &sharedtest.Memory{}
	for i := range 3 {
		send(t, p, name("m", fmt.Sprint(i)), folder(t, fmt.Sprint("f", i)))
	}
	opened := 0
	p.Fault = func(op string) error {
		if op == "open" {
			opened++
			return errors.New("gone away")
		}
		return nil
	}
	m := newMachine(p, nil)
	if got, ok := m.restore(t, name("m", "")); ok || len(m.told) != 1 || opened > 3 { // the tries of one blob
		t.Errorf("%q, %v, opened %d times, told %q", got, ok, opened, m.told)
	}
}

// TestLarge takes an older content if this machine has no room for the best one, and goes on
// to ask the place for other mounts.
func TestLarge(t *testing.T) {
	p := &sharedtest.Memory{}
	send(t, p, name("m", "old"), folder(t, "old"))
	send(t, p, name("m", "new"), folder(t, "new", "more"))
	send(t, p, name("other", ""), folder(t, "other"))
	m := newMachine(p, func(o *carry.Options) {
		o.Grow = func(_ context.Context, bytes, _ int64) (func(error), error) {
			if bytes > 200_000 {
				return nil, errors.New("no room in the store")
			}
			return func(error) {}, nil
		}
	})
	if got, ok := m.restore(t, name("m", "new")); got != "old" || !ok || len(m.told) != 1 {
		t.Errorf("%q, %v, told %q", got, ok, m.told)
	}
	if got, ok := m.restore(t, name("other", "")); got != "other" || !ok {
		t.Errorf("other: %q, %v, told %q", got, ok, m.told)
	}
}

// TestLies refuses contents that are not what the index says of them.
func TestLies(t *testing.T) {
	for what, lie := range map[string]func(*shared.Mount){
		"size":     func(m *shared.Mount) { m.Size-- },
		"files":    func(m *shared.Mount) { m.Files++ },
		"packs":    func(m *shared.Mount) { m.Packs = nil },
		"manifest": func(m *shared.Mount) { m.Manifest = m.Packs[0] },
		"large":    func(m *shared.Mount) { m.Manifest.Size = 1 << 40 },
	} {
		p := &sharedtest.Memory{}
		first := newMachine(p, nil)
		first.Used(name("m", ""), folder(t, "a"), true)
		liar := shared.New(shared.Options{
			Local: &cachetest.Memory{}, Mounts: liar{first.Carrier, lie}, Tell: first.tell,
			To: []shared.Target{{Backend: p, To: shared.To{Mounts: shared.Select{All: true}}}},
		})
		must(t, liar.Finish(t.Context(), nil))
		m := newMachine(p, nil)
		if got, ok := m.restore(t, name("m", "")); ok || len(m.told) != 1 {
			t.Errorf("%s: %q, %v, told %q", what, got, ok, m.told)
		}
	}
}

// liar sends entries that are not true.
type liar struct {
	shared.MountSender
	lie func(*shared.Mount)
}

// SendMounts implements shared.MountSender.
func (l liar) SendMounts(ctx context.Context, to *shared.MountTarget) ([]*shared.Mount, error) {
	ms, err := l.MountSender.SendMounts(ctx, to)
	for _, m := range ms {
		l.lie(m)
	}
	return ms, err
}

// TestShares sends a mount that two platforms use once, and what it has in common with
// another mount.
func TestShares(t *testing.T) {
	p := &sharedtest.Memory{}
	var stored atomic.Int32
	p.Fault = func(op string) error {
		if op == "store" {
			stored.Add(1)
		}
		return nil
	}
	dir, other := folder(t, "a", "b"), folder(t, "a", "b")
	must(t, os.Chtimes(other, time.Unix(1e9, 0), time.Unix(1e9, 0)))
	m := newMachine(p, nil)
	arm := name("m", "")
	arm.Platform = "linux/arm64"
	m.Used(name("m", ""), dir, true)
	m.Used(arm, dir, true)
	m.Used(name("copy", ""), other, true)
	m.Used(name("empty", ""), folder(t), true)
	failed := folder(t, "c")
	m.Used(name("failed", ""), failed, true)
	m.Used(name("failed", ""), failed, false)
	must(t, m.session.Finish(t.Context(), nil))
	for _, n := range []carry.Name{name("m", ""), arm, name("copy", "")} {
		if got, ok := newMachine(p, nil).restore(t, n); got != "a b" || !ok {
			t.Errorf("%+v: %q, %v", n, got, ok)
		}
	}
	if got, ok := newMachine(p, nil).restore(t, name("empty", "")); ok {
		t.Errorf("empty: %q", got)
	}
	// A pack and a manifest, and a manifest of the copy, which has other times.
	if n := stored.Load(); n != 3 {
		t.Errorf("%d blobs were stored", n)
	}
	// What is as the place has it is neither sent nor written again.
	stored.Store(0)
	send(t, p, name("m", ""), dir)
	if n := stored.Load(); n != 0 {
		t.Errorf("%d blobs were stored again", n)
	}
}

// TestBusy does not send a mount that somebody has for himself, but the others.
func TestBusy(t *testing.T) {
	p := &sharedtest.Memory{}
	busy, dir := folder(t, "a"), folder(t, "b")
	m := newMachine(p, func(o *carry.Options) {
		o.Hold = func(dir string) (func() error, error) {
			if dir == busy {
				return nil, errors.New("locked by another")
			}
			return func() error { return nil }, nil
		}
	})
	m.Used(name("busy", ""), busy, true)
	m.Used(name("m", ""), dir, true)
	must(t, m.session.Finish(t.Context(), nil))
	if all := strings.Join(m.told, "\n"); !strings.Contains(all, `cache mount "busy": locked by another`) {
		t.Errorf("told %q", m.told)
	}
	if got, ok := newMachine(p, nil).restore(t, name("m", "")); got != "b" || !ok {
		t.Errorf("%q, %v", got, ok)
	}
}

// TestErrors keeps what a pack lacks to itself.
func TestErrors(t *testing.T) {
	err := fmt.Errorf("restore: %w", &mounts.PackError{Pack: "sha256:x", Err: mounts.ErrDamaged})
	var pack *mounts.PackError
	if !errors.Is(err, mounts.ErrDamaged) || !errors.As(err, &pack) || !strings.Contains(err.Error(), "pack sha256:x: ") {
		t.Errorf("got %v", err)
	}
}
