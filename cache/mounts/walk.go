package mounts

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// walker opens the folders of entries, each in the one that it is in: no link leads
// elsewhere, and paths may have any length. What it returns is open until the next call.
type walker struct {
	root    *os.File
	entries []Entry
	open    []openFolder // below the root, the outermost first
}

type openFolder struct {
	entry int
	f     *os.File
}

func newWalker(root *os.File, entries []Entry) *walker { return &walker{root: root, entries: entries} }

// folder returns the folder that is an entry.
func (w *walker) folder(i int) (*os.File, error) {
	var missing []int // the innermost first
	for at := i; ; at = w.entries[at].Parent {
		if at == 0 {
			w.closeTo(0)
			break
		}
		if n := w.depth(at); n > 0 {
			w.closeTo(n)
			break
		}
		missing = append(missing, at)
	}
	for n := len(missing) - 1; n >= 0; n-- {
		parent := w.root
		if len(w.open) > 0 {
			parent = w.open[len(w.open)-1].f
		}
		name := w.entries[missing[n]].Name
		fd, err := unix.Openat(int(parent.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open folder %q: %w", name, err)
		}
		w.open = append(w.open, openFolder{missing[n], os.NewFile(uintptr(fd), name)})
	}
	if len(w.open) == 0 {
		return w.root, nil
	}
	return w.open[len(w.open)-1].f, nil
}

// depth is how many folders are open down to an entry, 0 if it is not open.
func (w *walker) depth(entry int) int {
	for n := len(w.open); n > 0; n-- {
		if w.open[n-1].entry == entry {
			return n
		}
	}
	return 0
}

func (w *walker) closeTo(n int) {
	for _, o := range w.open[n:] {
		o.f.Close()
	}
	w.open = w.open[:n]
}

func (w *walker) close() { w.closeTo(0) }
