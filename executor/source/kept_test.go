package source

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/contenthash"
)

// grow appends to a file.
func grow(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Close()))
}

func content(tree *Tree, p string) (string, error) {
	r, err := tree.Open(p)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r)
	return string(b), errors.Join(err, r.Close())
}

// TestChangedWhileRead proves that what was hashed is what is read, if it can be read
// still; if not, that it is an error.
func TestChangedWhileRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "aaaa", "b": "bbbb", "c": "cccc", "d": "dddd", "e": "eeee", "gone": "x"})
	at := func(name string) string { return filepath.Join(dir, name) }
	settle(t)
	tree := open(t, dir, "")
	var told []string
	tree.changed = func(p string) { told = append(told, p) }
	if _, err := tree.ReadDir("."); err != nil {
		t.Fatal(err)
	}
	// A file that was only listed is taken as it is when it is hashed, or opened.
	write(t, dir, map[string]string{"a": "longer than before", "e": "longer, too"})
	if d, err := tree.Digest("a"); err != nil || d != digest.FromString("longer than before") {
		t.Errorf("digest of a changed file: %s, %v", d, err)
	}
	if e, err := tree.Lstat("a"); err != nil || e.Size != 18 {
		t.Errorf("changed file: %+v, %v", e, err)
	}
	if got, err := content(tree, "e"); err != nil || got != "longer, too" {
		t.Errorf("opened: %q, %v", got, err)
	}
	if len(told) > 0 {
		t.Errorf("told of %v, which were read once", told)
	}
	for _, name := range []string{"b", "c", "d", "gone"} {
		if _, err := tree.Digest(name); err != nil {
			t.Fatal(err)
		}
	}
	// What is appended after that is left out, whenever it comes.
	grow(t, at("b"), "more")
	for range 2 {
		if got, err := content(tree, "b"); err != nil || got != "bbbb" {
			t.Errorf("a file that has grown: %q, %v", got, err)
		}
		write(t, dir, map[string]string{"b": "replaced"}) // it is kept
	}
	r, err := tree.Open("c")
	must(t, err)
	defer r.Close()
	grow(t, at("c"), "more")
	if got, err := io.ReadAll(r); err != nil || string(got) != "cccc" {
		t.Errorf("a file that grows: %q, %v", got, err)
	}
	if !slices.Equal(told, []string{"b"}) {
		t.Errorf("told of %v", told)
	}
	must(t, os.Chmod(at("d"), 0o600))
	if got, err := content(tree, "d"); err != nil || got != "dddd" || len(told) > 1 {
		t.Errorf("another mode: %q, %v, told of %v", got, err, told)
	}
	// What is lost is an error.
	write(t, dir, map[string]string{"a": "and once more"})
	must(t, os.Remove(at("gone")))
	for _, name := range []string{"a", "gone"} {
		if _, err := content(tree, name); !errors.Is(err, snapshot.ErrChanged) || !strings.Contains(err.Error(), "/"+name) {
			t.Errorf("%s is lost: %v", name, err)
		}
	}
	for _, now := range []string{"dd", "DDDD"} {
		settle(t)
		tree := open(t, dir, "")
		_, err := tree.Digest("d")
		must(t, err)
		r, err := tree.Open("d")
		must(t, err)
		write(t, dir, map[string]string{"d": now})
		if _, err := io.ReadAll(r); !errors.Is(err, snapshot.ErrChanged) || !strings.Contains(err.Error(), "/d changed") {
			t.Errorf("replaced by %q while it is read: %v", now, err)
		}
		r.Close()
	}
}

// TestChangedBeforeHashed proves that a file that changed after it was listed counts with
// the attributes that it has with the content that counts.
func TestChangedBeforeHashed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"a": "aaaa"})
	tree := open(t, dir, "")
	_, err := tree.ReadDir(".")
	must(t, err)
	write(t, dir, map[string]string{"a": "later"})
	must(t, os.Chmod(filepath.Join(dir, "a"), 0o700))
	got, err := contenthash.Paths(t.Context(), tree, []string{"a"}, contenthash.Options{})
	must(t, err)
	want, err := contenthash.Paths(t.Context(), open(t, dir, ""), []string{"a"}, contenthash.Options{})
	must(t, err)
	if got != want {
		t.Errorf("hashed as %s, want %s", got, want)
	}
}

// TestRenew proves that a tree that is looked at again has the files as they are, keeps
// what it reads of them from then on, and reads nothing that the index knows.
func TestRenew(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"stays": "s", "f": "first", "d/g": "g"})
	settle(t)
	tree := open(t, dir, t.TempDir())
	must(t, tree.Preload(t.Context(), []string{"."}))
	write(t, dir, map[string]string{"f": "second", "new": "n"})
	must(t, os.RemoveAll(filepath.Join(dir, "d")))
	if _, err := content(tree, "f"); !errors.Is(err, snapshot.ErrChanged) {
		t.Fatalf("got %v", err)
	}
	tree.Renew()
	before := tree.Hashed()
	must(t, tree.Preload(t.Context(), []string{"."}))
	if got := strings.Join(list(t, tree), " "); got != "f new stays" || tree.Hashed() != before+2 {
		t.Errorf("%s, %d hashed", got, tree.Hashed()-before)
	}
	write(t, dir, map[string]string{"f": "third"})
	must(t, os.Remove(filepath.Join(dir, "new")))
	for name, want := range map[string]string{"f": "second", "new": "n", "stays": "s"} {
		got, err := content(tree, name)
		d, derr := tree.Digest(name)
		if got != want || err != nil || derr != nil || d != digest.FromString(want) {
			t.Errorf("%s: %q, %v; %s, %v", name, got, err, d, derr)
		}
	}
}

// TestBusyContext reads a context in which files are written to, replaced and removed all
// the time: what was hashed is what is read, or lost.
func TestBusyContext(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, map[string]string{"log": "", "swap": "0", "d/x": "x"})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			f, err := os.OpenFile(filepath.Join(dir, "log"), os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				f.WriteString(strings.Repeat("line\n", i%7))
				f.Close()
			}
			os.WriteFile(filepath.Join(dir, "swap"), fmt.Append(nil, 100+i%900), 0o644)
			os.WriteFile(filepath.Join(dir, "comes"), nil, 0o644)
			os.Mkdir(filepath.Join(dir, "folder"), 0o755)
			os.Remove(filepath.Join(dir, "comes"))
			os.Remove(filepath.Join(dir, "folder"))
		}
	})
	defer wg.Wait()
	defer close(stop)
	lost, read := 0, 0
	for range 200 {
		tree := open(t, dir, state)
		for try := 0; ; try++ {
			err := tree.Preload(t.Context(), []string{"."})
			for _, name := range []string{"log", "swap", "d/x"} {
				var d digest.Digest
				var got string
				if err == nil {
					d, err = tree.Digest(name)
				}
				if err == nil {
					got, err = content(tree, name)
				}
				if err == nil && digest.FromString(got) != d {
					t.Fatalf("%s was hashed as %s, and %q was read", name, d, got)
				}
			}
			if err == nil {
				read++
				break
			}
			if !errors.Is(err, snapshot.ErrChanged) || try == 20 {
				t.Fatal(err)
			}
			lost++
			tree.Renew()
		}
		tree.Close()
	}
	t.Logf("%d read, %d lost", read, lost)
}
