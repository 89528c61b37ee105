// Package workdir lays stacks out as plain files, for where nothing can be mounted, and
// finds what a process changed in them by comparing.
package workdir

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/object"
)

// Dir is a directory with all files of a stack: a process runs in it, and what it
// changed is what differs from what is known. It is used by one goroutine at a time.
type Dir struct {
	m    *object.Maker // of what is in it
	dir  string
	root object.Root
	// known is what every object was when the directory was equal to the stack, by path.
	known map[string]state
	// since is when known was read. What changed shortly before cannot be told from
	// what changed shortly after by its times.
	since time.Time
}

// New makes an empty directory where there is none. It is the caller's to remove.
func New(m *object.Maker, dir string) (*Dir, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	return &Dir{m: m, dir: dir, known: map[string]state{}}, nil
}

// Path is where the directory is.
func (w *Dir) Path() string { return w.dir }

// state is what tells whether an object is as it was.
type state struct {
	mode, uid, gid uint32 // as the layer says them
	ino, rdev      uint64
	size           int64
	mtime, ctime   unix.Timespec
}

// tickDoubt is how long the kernel may give equal times to different changes (a
// tick, at most 10 ms), with some room.
const tickDoubt = 25 * time.Millisecond

func stateOf(st *unix.Stat_t) state {
	return state{
		mode: st.Mode, uid: st.Uid, gid: st.Gid, ino: st.Ino, rdev: st.Rdev, size: st.Size, mtime: st.Mtim, ctime: st.Ctim,
	}
}

// untouched reports whether an object is certainly as it was.
func (w *Dir) untouched(k state, st *unix.Stat_t) bool {
	return k.ino == st.Ino && k.ctime == st.Ctim && k.mtime == st.Mtim && k.size == st.Size &&
		timeOf(k.ctime).Before(w.since.Add(-tickDoubt))
}

func (w *Dir) host(rel string) string {
	if rel == "." {
		return w.dir
	}
	return w.dir + "/" + rel
}

// remember reads what an object is now.
func (w *Dir) remember(rel string) error {
	st, err := w.m.Lstat(w.host(rel))
	if err != nil {
		return fmt.Errorf("stat %s: %w", w.host(rel), err)
	}
	w.known[rel] = stateOf(st)
	return nil
}

// Ready gives the root directory its metadata and notes the time: what changes from now
// on is found by Diff.
func (w *Dir) Ready(root object.Root) error {
	w.since, w.root = time.Now(), root
	return w.m.SetRoot(w.dir, root)
}

// Forget gives up what is known of the objects: they will not be compared.
func (w *Dir) Forget() { w.known = nil }
