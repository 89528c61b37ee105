package snapshot_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

// at is a time in the past, in seconds since the start.
func at(sec int64) time.Time { return time.Unix(1e9+sec, 0) }

func timed(c snapshot.Change, t time.Time) snapshot.Change {
	c.Entry.ModTime = t
	return c
}

// app makes two layers in which files are of the seconds 10, 20 and 30, the second
// by a process where that is possible here, as a build under an epoch does.
func app(t *testing.T, s *snapshot.Store, parent snapshot.Stack, epoch *time.Time, opts snapshot.WriteOptions) snapshot.Stack {
	t.Helper()
	opts.Epoch = epoch
	link := timed(file("app/link", ""), at(30))
	link.Entry.Hardlink, link.Open = "app/a", nil
	stack := slices.Clone(parent)
	add := func(l snapshot.Layer, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		stack = append(stack, l)
	}
	add(s.WriteLayer(t.Context(), stack, []snapshot.Change{
		timed(dir("app"), at(30)), timed(file("app/a", "a"), at(10)), timed(file("app/b", "bb"), at(20)), link,
		timed(file("app/large", string(make([]byte, 200<<10))), at(30)),
	}, opts))
	// Its directory app is taken over from the layer below.
	add(s.WriteLayer(t.Context(), stack, []snapshot.Change{timed(file("app/c", "c"), at(20))}, opts))
	if canMount() {
		add(run(t, s, stack, epoch))
	}
	return stack
}

func canMount() bool { return os.Geteuid() == 0 }

// run changes the mode of a file and makes another, as RUN does.
func run(t *testing.T, s *snapshot.Store, stack snapshot.Stack, epoch *time.Time) (snapshot.Layer, error) {
	snapshottest.NeedMount(t)
	a, err := s.Prepare(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	snapshottest.InMount(t, a.Mount(), func(root string) {
		for _, err := range []error{
			os.Chmod(root+"/app/b", 0o600), // copied up with its time
			os.WriteFile(root+"/app/new", []byte("new"), 0o644),
			os.Remove(root + "/app/c"),
			os.Chtimes(root+"/app", at(30), at(30)),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return a.Commit(t.Context(), snapshot.CommitOptions{Epoch: epoch})
}

func clamp(t *testing.T, s *snapshot.Store, parent, stack snapshot.Stack, epoch time.Time) snapshot.Stack {
	t.Helper()
	out, err := s.Clamp(t.Context(), parent, stack[len(parent):], epoch)
	if err != nil {
		t.Fatal(err)
	}
	return append(slices.Clone(parent), out...)
}

// check reads all that a stack's layers are made of.
func check(t *testing.T, s *snapshot.Store, stack snapshot.Stack, epoch time.Time) {
	t.Helper()
	for i, l := range stack {
		if _, data := readTar(t, s, l); int64(len(data)) != l.Size {
			t.Errorf("layer %d: its tar has %d bytes, not %d", i, len(data), l.Size)
		}
		m, err := s.Manifest(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		for e, err := m.Next(); err != io.EOF; e, err = m.Next() {
			if err != nil {
				t.Fatal(err)
			}
			if e.ModTime.After(epoch) {
				t.Errorf("layer %d: %s is of %v, after %v", i, e.Path, e.ModTime, epoch)
			}
		}
		if got, ok := s.Lookup(stack[:i+1].ChainID()); !ok || got.ID != l.ID {
			t.Errorf("layer %d is not found by its chain", i)
		}
	}
	tree, err := s.Tree(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"app/a": "a", "app/b": "bb", "app/link": "a"} {
		if got := readFile(t, tree, p); got != want {
			t.Errorf("%s is %q", p, got)
		}
	}
}

// TestClamp: whatever epoch the layers were made under, they become those of a
// build under this epoch.
func TestClamp(t *testing.T) {
	needRoot(t)
	for _, opts := range []snapshot.WriteOptions{{}, {Dir: true}} {
		for _, epoch := range []time.Time{at(5), at(10), at(15), at(25)} {
			clean := openStore(t)
			want := app(t, clean, nil, &epoch, opts)
			if got := clamp(t, clean, nil, want, epoch); got.ChainID() != want.ChainID() {
				t.Error("layers made under the epoch are not returned as they are")
			}
			for _, was := range []*time.Time{nil, new(at(5)), new(at(12)), new(at(20)), new(at(40))} {
				s := openStore(t)
				stack := clamp(t, s, nil, app(t, s, nil, was, opts), epoch)
				for i := range stack {
					if stack[i].DiffID != want[i].DiffID || stack[i].Content != want[i].Content || stack[i].Size != want[i].Size {
						t.Errorf("dir %v, epoch %v after %v: layer %d is another than in a clean build", opts.Dir, epoch, was, i)
					}
				}
				check(t, s, stack, epoch)
			}
		}
	}
}

// TestClampAgain: the second time reads nothing of the layers.
func TestClampAgain(t *testing.T) {
	s := openStore(t)
	made := app(t, s, nil, nil, snapshot.WriteOptions{})
	first := clamp(t, s, nil, made, at(15))
	for _, l := range made {
		for _, name := range []string{"tar", "dir", "manifest"} {
			p := filepath.Join(s.Root(), "layers", string(l.ID), name)
			if err := os.Rename(p, p+".away"); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
	}
	if again := clamp(t, s, nil, made, at(15)); again.ChainID() != first.ChainID() {
		t.Error("the second time gives other layers")
	}
}

// TestClampOriginalsRemoved: a derived layer does not need the one it was made of,
// and processes can run on it.
func TestClampOriginalsRemoved(t *testing.T) {
	needRoot(t)
	for _, opts := range []snapshot.WriteOptions{{}, {Dir: true}} {
		s := openStore(t)
		made := app(t, s, nil, nil, opts)
		stack := clamp(t, s, nil, made, at(15))
		var sum int64
		for _, l := range append(slices.Clone(made), stack...) {
			n, err := s.Usage(l.ID)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		if opts.Dir && sum > 400<<10 {
			t.Errorf("the large file counts twice: %d bytes in all", sum)
		}
		for _, l := range made {
			if err := s.Remove(t.Context(), l.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Reclaim(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t, s, stack, at(15))
		if !canMount() {
			continue
		}
		top, err := run(t, s, stack[:2], new(at(15)))
		if err != nil {
			t.Fatal(err)
		}
		if top.DiffID != stack[2].DiffID {
			t.Error("the same process on the derived layers makes another layer")
		}
		view, err := s.View(t.Context(), append(stack[:2:2], top))
		if err != nil {
			t.Fatal(err)
		}
		snapshottest.InMount(t, view, func(root string) {
			if b, err := os.ReadFile(root + "/app/new"); err != nil || string(b) != "new" {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

// TestClampForeign: layers made elsewhere keep their times, wherever they stand.
func TestClampForeign(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	data := makeTar(t, ent('5', "etc/", ""), ent('0', "etc/f", "f"))
	base := addAll(t, s, gz(data))
	stack := app(t, s, base, nil, snapshot.WriteOptions{Dir: true})
	got := clamp(t, s, base, stack, at(15))
	if got[0] != base[0] {
		t.Error("the base was touched")
	}
	// A foreign layer in the middle comes to stand on a changed one.
	own, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{timed(file("x", "x"), at(30))}, snapshot.WriteOptions{Dir: true})
	if err != nil {
		t.Fatal(err)
	}
	mixed := append(snapshot.Stack{own}, addAll(t, s, gz(data))...)
	mixed = clamp(t, s, nil, mixed, at(15))
	if mixed[1].DiffID != base[0].DiffID {
		t.Error("a foreign layer has another tar")
	}
	if names, _ := readTar(t, s, mixed[1]); !slices.Contains(names, "etc/f") {
		t.Errorf("the foreign layer has %v", names)
	}
	if _, ok := s.Lookup(mixed.ChainID()); !ok {
		t.Error("the moved layer is not found by its chain")
	}
}

func BenchmarkClamp50k(b *testing.B) {
	s := openStore(b)
	l, err := s.WriteLayer(b.Context(), nil, benchChanges(b, 50_000), snapshot.WriteOptions{Epoch: new(at(0))})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("same", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Clamp(b.Context(), nil, snapshot.Stack{l}, at(0)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("other", func(b *testing.B) {
		epoch := int64(0)
		for b.Loop() {
			epoch--
			if _, err := s.Clamp(b.Context(), nil, snapshot.Stack{l}, at(epoch)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestClampConcurrently: several processes derive the same layers at once.
func TestClampConcurrently(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	made := app(t, s, nil, nil, snapshot.WriteOptions{Dir: true})
	want := clamp(t, openStoreAt(t, s.Root()), nil, made, at(5)).ChainID() // the first epoch, known to all
	var g errgroup.Group
	chains := make([]snapshot.ChainID, 8)
	for i := range chains {
		other := openStoreAt(t, s.Root())
		g.Go(func() error {
			if out, err := other.Clamp(t.Context(), nil, made, at(5)); err != nil || out.ChainID() != want {
				return fmt.Errorf("known epoch: %v, %w", out.ChainID(), err)
			}
			out, err := other.Clamp(t.Context(), nil, made, at(15))
			chains[i] = out.ChainID()
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(slices.Compact(chains)) != 1 {
		t.Errorf("different layers: %v", chains)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Root(), "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

// TestClampDamaged: contents that are not what the manifest says never become a
// layer.
func TestClampDamaged(t *testing.T) {
	needRoot(t)
	s := openStore(t)
	made := app(t, s, nil, nil, snapshot.WriteOptions{Dir: true})
	if err := os.WriteFile(filepath.Join(s.Root(), "layers", string(made[0].ID), "dir/app/b"), []byte("BB"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := s.Clamp(t.Context(), nil, made, at(15)); err == nil {
		t.Errorf("a damaged layer became %v", out)
	}
	if left, _ := os.ReadDir(filepath.Join(s.Root(), "tmp")); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

// openStoreAt opens a store once more.
func openStoreAt(t *testing.T, root string) *snapshot.Store {
	t.Helper()
	s, err := snapshot.Open(root, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
