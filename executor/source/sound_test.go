package source

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

// TestIndexIsSound changes files in every way that may go unnoticed, without a
// pause, and looks whether the tree with the index says what is there. Many of the
// changes fall into the same tick of the kernel's clock as the one before.
func TestIndexIsSound(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	names := []string{"a", "b", "d/a", "d/b", "d/e/a"}
	files := map[string]string{}
	for _, n := range names {
		files[n] = "0000"
	}
	write(t, dir, files)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	known := 0 // files whose digest the index knew
	var last []string
	for i := range 400 {
		for range 1 + rnd.IntN(2) {
			what := change(t, rnd, dir, names)
			if last = append(last, what); len(last) > 6 {
				last = last[1:]
			}
		}
		if rnd.IntN(8) == 0 {
			settle(t)
		}
		tree := open(t, dir, state)
		if err := tree.Preload(t.Context(), []string{"."}); err != nil {
			t.Fatalf("seed %d, change %d, %q: %v", seed, i, last, err)
		}
		count := checkTree(t, tree, dir)
		known += count - tree.Hashed()
		if t.Failed() {
			t.Fatalf("seed %d, after change %d: %q", seed, i, last)
		}
	}
	if known < 100 {
		t.Errorf("the index knew %d files only: this test shows nothing", known)
	}
}

// change does something to a random file and says what.
func change(t *testing.T, rnd *rand.Rand, dir string, names []string) string {
	t.Helper()
	name, other := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
	p, q := filepath.Join(dir, name), filepath.Join(dir, other)
	data := []byte(fmt.Sprintf("%04d", rnd.IntN(10000)))
	was, err := os.Stat(p)
	if err != nil {
		must(t, os.WriteFile(p, data, 0o644))
		return "make " + name
	}
	switch rnd.IntN(10) {
	case 0, 1:
		must(t, os.WriteFile(p, data, 0))
		return "write " + name
	case 2:
		must(t, os.WriteFile(p, data, 0))
		must(t, os.Chtimes(p, was.ModTime(), was.ModTime()))
		return "write and touch -r " + name
	case 3: // another inode, with the old one's times
		must(t, os.WriteFile(p+".new", data, 0o644))
		must(t, os.Chtimes(p+".new", was.ModTime(), was.ModTime()))
		must(t, os.Rename(p+".new", p))
		return "replace " + name
	case 4:
		if p == q {
			return "nothing"
		}
		must(t, os.Rename(p, q))
		must(t, os.WriteFile(p, data, 0o644))
		return "rename " + name + " to " + other
	case 5: // written through another name
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Link(p, link))
		must(t, os.WriteFile(link, data, 0))
		must(t, os.Chtimes(link, was.ModTime(), was.ModTime()))
		must(t, os.Remove(link))
		return "write through a hard link " + name
	case 6:
		must(t, unix.Chmod(p, uint32(0o600+rnd.IntN(0o200))))
		return "chmod " + name
	case 7:
		must(t, unix.Setxattr(p, "user.test", data, 0))
		return "attribute " + name
	case 8:
		return "map " + name + mapped(t, p, data)
	default: // a clock that was wrong
		when := time.Now().Add(time.Duration(rnd.Int64N(int64(48*time.Hour))) - 24*time.Hour)
		must(t, os.WriteFile(p, data, 0))
		must(t, os.Chtimes(p, when, when))
		return "write at another time " + name
	}
}

// mapped changes a file through memory.
func mapped(t *testing.T, p string, data []byte) string {
	t.Helper()
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, len(data), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	copy(m, data)
	must(t, unix.Munmap(m))
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkTree compares all files with what is on disk, and counts them.
func checkTree(t *testing.T, tree *Tree, dir string) int {
	t.Helper()
	count := 0
	var walk func(p string)
	walk = func(p string) {
		entries, err := tree.ReadDir(p)
		must(t, err)
		for _, e := range entries {
			if e.Type == snapshot.TypeDir {
				walk(e.Path)
				continue
			}
			count++
			data, err := os.ReadFile(filepath.Join(dir, e.Path))
			must(t, err)
			fi, err := os.Stat(filepath.Join(dir, e.Path))
			must(t, err)
			got, err := tree.Digest(e.Path)
			must(t, err)
			if got != digest.FromBytes(data) || e.Mode != uint32(fi.Mode().Perm()) || !fi.ModTime().Equal(e.ModTime) {
				t.Errorf("%s: digest %s, mode %o, time %s; it has %s, %o, %s", e.Path, got, e.Mode, e.ModTime, digest.FromBytes(data), fi.Mode().Perm(), fi.ModTime())
			}
			attr := make([]byte, 16)
			n, _ := unix.Getxattr(filepath.Join(dir, e.Path), "user.test", attr)
			if want := attr[:max(n, 0)]; !slices.Equal([]byte(e.Xattrs["user.test"]), want) {
				t.Errorf("%s: attribute %q, it has %q", e.Path, e.Xattrs["user.test"], want)
			}
		}
	}
	walk(".")
	return count
}
