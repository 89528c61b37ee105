package snapshot_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/owner"
	"layered.build/builder/snapshot/snapshottest"
)

// exported is a layer as a registry has it.
func exported(t *testing.T, s *snapshot.Store, l snapshot.Layer) *remote {
	t.Helper()
	r, err := s.Tar(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return gz(data)
}

func promised(r *remote, content digest.Digest) snapshot.LazyLayer {
	l := r.lazy()
	l.Content = content
	return l
}

// oddScene is scene with what it leaves out: hard links, devices, fifos, long names and
// attributes with odd values.
func oddScene(t *testing.T, root string, r *rand.Rand) {
	t.Helper()
	scene(t, root, r)
	for i := range 25 {
		p := snapshottest.Name(root, r.IntN)
		os.MkdirAll(filepath.Dir(p), 0o755)
		switch r.IntN(7) {
		case 0, 1:
			os.Link(snapshottest.Name(root, r.IntN), p)
		case 2:
			unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, uint32(i+1))))
		case 3:
			unix.Mknod(p, unix.S_IFBLK|0o640, int(unix.Mkdev(8, 300)))
		case 4:
			unix.Mkfifo(p, 0o644)
		case 5:
			os.WriteFile(filepath.Dir(p)+"/"+strings.Repeat("ü", 60+i), []byte{byte(i)}, 0o4755)
			os.WriteFile(filepath.Dir(p)+"/\xff\n=\\ ", nil, 0o600)
		default:
			unix.Setxattr(p, "user.odd", []byte("\x00=\n"), 0)
			unix.Setxattr(p, "user.empty", nil, 0)
			unix.Setxattr(p, "trusted.x", bytes.Repeat([]byte("x"), 300), 0)
		}
	}
}

// someChanges are changes on a base for WriteLayer, some of them whiteouts, opaque and
// hard links.
func someChanges(t *testing.T, base snapshot.Tree, r *rand.Rand) []snapshot.Change {
	t.Helper()
	var below []*snapshot.Entry
	if err := snapshot.Walk(base, ".", func(e *snapshot.Entry) error { below = append(below, e); return nil }); err != nil {
		t.Fatal(err)
	}
	ids := uint32(1 << 31)
	if !fixtures.RealRoot() && !owner.Emulated() { // a user namespace has fewer
		ids = 60_000
	}
	used := map[string]bool{}
	var out []snapshot.Change
	add := func(c snapshot.Change) {
		if !used[c.Entry.Path] {
			used[c.Entry.Path] = true
			out = append(out, c)
		}
	}
	for i := range 12 {
		p := fmt.Sprintf("new-%d-%d", r.IntN(1e9), i)
		meta := func(c snapshot.Change) snapshot.Change {
			c.Entry.UID, c.Entry.GID = r.Uint32N(3), r.Uint32N(ids)
			c.Entry.ModTime = time.Unix(r.Int64N(2e9), r.Int64N(1e9))
			c.Entry.Xattrs = map[string]string{"user.n": fmt.Sprint(i)}
			return c
		}
		switch r.IntN(6) {
		case 0:
			first := meta(file(p, strings.Repeat("large", r.IntN(90_000))))
			link := first
			link.Entry.Path, link.Entry.Hardlink, link.Open = p+"-link", p, nil
			link.Entry.Mode, link.Entry.UID = 0o4711, 7 // a tar can say that, and is told again
			add(first)
			add(link)
		case 1:
			add(meta(dir(p)))
			add(meta(file(p+"/below", p)))
		case 2:
			add(meta(snapshot.Change{Entry: snapshot.Entry{Path: p, Type: snapshot.TypeSymlink, Linkname: strings.Repeat("../", 50) + p}}))
		case 3, 4:
			gone := "never-was"
			if e := below[r.IntN(len(below))]; e.Path != "." {
				gone = e.Path
			}
			add(snapshot.Change{Entry: snapshot.Entry{Path: gone, Type: snapshot.TypeWhiteout}})
		default:
			if e := below[r.IntN(len(below))]; e.Type == snapshot.TypeDir && e.Path != "." {
				c := *e
				c.Opaque = true
				add(snapshot.Change{Entry: c})
			}
		}
	}
	return valid(out)
}

// valid leaves out what is below a whiteout.
func valid(all []snapshot.Change) (out []snapshot.Change) {
	gone := map[string]bool{}
	for _, c := range all {
		gone[c.Entry.Path] = c.Entry.Type == snapshot.TypeWhiteout
	}
	for _, c := range all {
		below := false
		for d := filepath.Dir(c.Entry.Path); d != "."; d = filepath.Dir(d) {
			below = below || gone[d]
		}
		if !below {
			out = append(out, c)
		}
	}
	return out
}

// makers make a layer on a stack in every way that there is.
func makers(t *testing.T, r *rand.Rand) map[string]func(s *snapshot.Store, parent snapshot.Stack) (snapshot.Layer, error) {
	commit := func(s *snapshot.Store, parent snapshot.Stack) (snapshot.Layer, error) {
		a, err := s.Prepare(t.Context(), parent)
		if err != nil {
			return snapshot.Layer{}, err
		}
		snapshottest.InMount(t, a.Mount(), func(root string) { oddScene(t, root, r) })
		return a.Commit(t.Context(), snapshot.CommitOptions{})
	}
	write := func(opts snapshot.WriteOptions) func(s *snapshot.Store, parent snapshot.Stack) (snapshot.Layer, error) {
		return func(s *snapshot.Store, parent snapshot.Stack) (snapshot.Layer, error) {
			base, err := s.Tree(t.Context(), parent)
			if err != nil {
				return snapshot.Layer{}, err
			}
			return s.WriteLayer(t.Context(), parent, someChanges(t, base, r), opts)
		}
	}
	return map[string]func(s *snapshot.Store, parent snapshot.Stack) (snapshot.Layer, error){
		"committed": commit, "written as tar": write(snapshot.WriteOptions{}), "written as directory": write(snapshot.WriteOptions{Dir: true}),
	}
}

// TestRestoredContent proves that a layer that was made here, and is fetched elsewhere with
// the content that is known of it, has that content and the same tar there, and that it
// can be clamped, moved and built upon as if it had been made there.
func TestRestoredContent(t *testing.T) {
	needRoot(t)
	epoch := time.Unix(5e8, 0)
	for _, open := range []struct {
		name  string
		store func(testing.TB) *snapshot.Store
	}{{"overlay", openStore}, {"copy", openCopyStore}} {
		for seed := range uint64(3) {
			r := rand.New(rand.NewPCG(seed, 77))
			for name, makeLayer := range makers(t, r) {
				t.Run(fmt.Sprintf("%s %s %d", open.name, name, seed), func(t *testing.T) {
					here, there := open.store(t), open.store(t)
					var made, restored snapshot.Stack
					for range 3 {
						l, err := makeLayer(here, made)
						if err != nil {
							t.Fatal(err)
						}
						made = append(made, l)
						got, err := there.AddLazy(restored, promised(exported(t, here, l), l.Content))
						if err != nil {
							t.Fatal(err)
						}
						restored = append(restored, got)
					}
					if err := there.Materialize(t.Context(), restored); err != nil {
						t.Fatal(err)
					}
					sameLayers(t, here, there, made, restored)
					sameView(t, here, there, made, restored)
					clampedHere, clampedThere := clamp(t, here, nil, made, epoch), clamp(t, there, nil, restored, epoch)
					sameLayers(t, here, there, clampedHere, clampedThere)
				})
			}
		}
	}
}

func sameLayers(t *testing.T, here, there *snapshot.Store, made, restored snapshot.Stack) {
	t.Helper()
	for i, l := range restored {
		known, ok := there.Lookup(restored[:i+1].ChainID())
		if !ok || known.Content != made[i].Content || l.Content != made[i].Content || l.DiffID != made[i].DiffID || known.Size != made[i].Size {
			t.Errorf("layer %d: made\n%+v, restored\n%+v, on disk\n%+v", i, made[i], l, known)
		}
		if !bytes.Equal(exported(t, here, made[i]).tar, exported(t, there, l).tar) {
			t.Errorf("layer %d has another tar", i)
		}
	}
}

// sameView compares what is seen of two stacks.
func sameView(t *testing.T, here, there *snapshot.Store, made, restored snapshot.Stack) {
	t.Helper()
	list := func(s *snapshot.Store, stack snapshot.Stack) string {
		tree, err := s.Tree(t.Context(), stack)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err = snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
			c := *e
			c.ModTime, c.RealTime = time.Unix(e.ModTime.Unix(), 0), time.Time{}
			fmt.Fprintf(&out, "%+v\n", c)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if a, b := list(here, made), list(there, restored); a != b {
		t.Errorf("the tree here is\n%s\nthere it is\n%s", a, b)
	}
}

// TestWrongPromise: a layer with another content than was promised is not unpacked, and
// leaves nothing; afterwards it can be had without the promise.
func TestWrongPromise(t *testing.T) {
	s, there := openStore(t), openStore(t)
	l, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "text")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := exported(t, s, l)
	for name, wrong := range map[string]*remote{
		"another content": r,
		"a foreign tar":   gz(makeTar(t, ent('0', "g", "1"), ent('0', "f", "2"))),
	} {
		lie := digest.FromString("lie")
		got, err := there.AddLazy(nil, promised(wrong, lie))
		if err != nil || got.Content != lie {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if err := there.Materialize(t.Context(), snapshot.Stack{got}); !errors.Is(err, snapshot.ErrDigest) {
			t.Errorf("%s: %v", name, err)
		}
		for _, dir := range []string{"layers", "blobs/sha256", "tmp"} {
			if left, err := os.ReadDir(filepath.Join(there.Root(), dir)); err != nil || len(left) > 0 {
				t.Errorf("%s: %s holds %v, %v", name, dir, left, err)
			}
		}
	}
	got, err := there.AddLazy(nil, r.lazy())
	if err == nil {
		err = there.Materialize(t.Context(), snapshot.Stack{got})
	}
	if err != nil || got.Content == l.Content {
		t.Fatalf("without a promise: %+v, %v", got, err)
	}
	if _, err := there.AddLazy(nil, promised(r, "no digest")); err == nil {
		t.Error("a promise that is no digest was accepted")
	}
	if _, err := s.AddLazy(nil, promised(r, digest.FromString("lie"))); !errors.Is(err, snapshot.ErrDigest) {
		t.Errorf("a promise about a layer that was made here: %v", err)
	}
}

// TestOneContent: a layer that was pulled, and one that is made, or promised, later are
// one, with the content of the latter.
func TestOneContent(t *testing.T) {
	for name, meet := range map[string]func(s *snapshot.Store, r *remote, made snapshot.Layer) (snapshot.Layer, error){
		"made": func(s *snapshot.Store, _ *remote, _ snapshot.Layer) (snapshot.Layer, error) {
			return s.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "text")}, snapshot.WriteOptions{})
		},
		"promised": func(s *snapshot.Store, r *remote, made snapshot.Layer) (snapshot.Layer, error) {
			return s.AddLazy(nil, promised(r, made.Content))
		},
	} {
		here, there := openStore(t), openStore(t)
		made, err := here.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "text")}, snapshot.WriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := exported(t, here, made)
		pulled := addAll(t, there, r)
		if err := there.Materialize(t.Context(), pulled); err != nil {
			t.Fatal(err)
		}
		if pulled[0].Content == made.Content {
			t.Fatal("its content is known although nobody told it")
		}
		for range 2 {
			got, err := meet(there, r, made)
			if err != nil || got.ID != pulled[0].ID || got.Content != made.Content {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
		if known, ok := openStoreAt(t, there.Root()).Lookup(pulled.ChainID()); !ok || known.Content != made.Content {
			t.Errorf("%s: on disk is %+v", name, known)
		}
		if again := addAll(t, there, r); again[0].Content != made.Content {
			t.Errorf("%s: pulled again it is %+v", name, again[0])
		}
	}
}

// TestPromiseElsewhere: a layer that could be taken from another stack is, if its content
// is the promised one there.
func TestPromiseElsewhere(t *testing.T) {
	needRoot(t)
	here, there := openStore(t), openStore(t)
	made, err := here.WriteLayer(t.Context(), nil, []snapshot.Change{file("f", "text")}, snapshot.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, base := exported(t, here, made), gz(makeTar(t, ent('0', "base", "x")))
	for _, c := range []struct {
		first  digest.Digest
		opened int32
	}{{made.Content, 0}, {"", 1}} {
		r.opened.Store(0)
		alone, err := there.AddLazy(nil, promised(r, c.first))
		if err == nil {
			err = there.Materialize(t.Context(), snapshot.Stack{alone})
		}
		if err != nil {
			t.Fatal(err)
		}
		r.opened.Store(0)
		os.RemoveAll(filepath.Join(there.Root(), "blobs/sha256", digest.FromBytes(r.blob).Encoded()))
		stack := addAll(t, there, base)
		moved, err := there.AddLazy(stack, promised(r, made.Content))
		if err == nil {
			err = there.Materialize(t.Context(), append(stack, moved))
		}
		if err != nil {
			t.Fatal(err)
		}
		if known, ok := there.Lookup(append(stack, moved).ChainID()); !ok || known.Content != made.Content || r.opened.Load() != c.opened {
			t.Errorf("on another stack it is %+v, fetched %d times", known, r.opened.Load())
		}
		there = openStore(t)
	}
}
