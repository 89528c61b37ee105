package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/object"
)

// keptDirs is how many committed working directories a store keeps to continue
// from. One is what a chain of steps needs; the second is for a stage beside it.
const keptDirs = 2

// workDir is a stack laid out as plain files (DriverCopy): a process runs in it,
// and what it changed is what differs from what is known.
type workDir struct {
	s     *Store
	m     *object.Maker // of what is in it
	dir   string        // holds the tree, and belongs to this process
	stack Stack         // what the tree is equal to, but for what ran since
	root  object.Root
	// known is what every object was when the tree was equal to the stack, by path.
	known map[string]objectState
	// since is when known was read. What changed shortly before cannot be told from
	// what changed shortly after by its times.
	since time.Time
}

// objectState is what tells whether an object is as it was.
type objectState struct {
	mode, uid, gid uint32 // as the layer says them
	ino, rdev      uint64
	size           int64
	mtime, ctime   unix.Timespec
}

// tickDoubt is how long the kernel may give equal times to different changes (a
// tick, at most 10 ms), with some room.
const tickDoubt = 25 * time.Millisecond

func stateOf(st *unix.Stat_t) objectState {
	return objectState{
		mode: st.Mode, uid: st.Uid, gid: st.Gid, ino: st.Ino, rdev: st.Rdev, size: st.Size, mtime: st.Mtim, ctime: st.Ctim,
	}
}

// untouched reports whether an object is certainly as it was.
func (w *workDir) untouched(k objectState, st *unix.Stat_t) bool {
	return k.ino == st.Ino && k.ctime == st.Ctim && k.mtime == st.Mtim && k.size == st.Size &&
		timeOf(k.ctime).Before(w.since.Add(-tickDoubt))
}

func (w *workDir) tree() string { return filepath.Join(w.dir, "tree") }

func (w *workDir) host(rel string) string {
	if rel == "." {
		return w.tree()
	}
	return w.tree() + "/" + rel
}

// remember reads what an object is now.
func (w *workDir) remember(rel string) error {
	st, err := w.m.Lstat(w.host(rel))
	if err != nil {
		return fmt.Errorf("stat %s: %w", w.host(rel), err)
	}
	w.known[rel] = stateOf(st)
	return nil
}

// settled gives the root directory its metadata and notes the time.
func (w *workDir) settled() error {
	w.since = time.Now()
	return w.m.SetRoot(w.tree(), w.root)
}

// remove deletes the tree.
func (w *workDir) remove() error { return files.RemoveAll(w.dir) }

// workDir lays out a stack: on top of a kept directory if one has the lower layers
// of the stack, else anew.
func (s *Store) workDir(ctx context.Context, stack Stack) (*workDir, error) {
	if err := s.ensure(ctx, stack, false); err != nil {
		return nil, err
	}
	_, root, err := s.lowers(stack)
	if err != nil {
		return nil, err
	}
	w, have := s.takeKept(stack)
	if w == nil {
		dir, err := s.tempDir(activeDir)
		if err != nil {
			return nil, err
		}
		w = &workDir{s: s, m: s.maker, dir: dir, known: map[string]objectState{}}
		if s.emulated {
			w.m = s.maker.ForProcesses()
		}
		if err := os.Mkdir(w.tree(), 0o755); err != nil {
			return nil, errors.Join(err, w.remove())
		}
	}
	w.stack, w.root = append(Stack(nil), stack...), root
	err = w.fill(ctx, have)
	if err == nil {
		err = w.settled()
	}
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	return w, nil
}

// keep holds a directory that is equal to its stack.
func (s *Store) keep(w *workDir) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return w.remove()
	}
	s.kept = append(s.kept, w)
	var gone *workDir
	if len(s.kept) > keptDirs {
		gone, s.kept = s.kept[0], append([]*workDir(nil), s.kept[1:]...)
	}
	s.mu.Unlock()
	if gone != nil {
		return gone.remove()
	}
	return nil
}

// takeKept returns the kept directory that has most of a stack, and how many of the
// stack's layers it has; nil if none has any.
func (s *Store) takeKept(stack Stack) (*workDir, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	best := -1
	for i, w := range s.kept {
		if isPrefix(w.stack, stack) && len(w.stack) > 0 && (best < 0 || len(w.stack) > len(s.kept[best].stack)) {
			best = i
		}
	}
	if best < 0 {
		return nil, 0
	}
	w := s.kept[best]
	s.kept = append(append([]*workDir(nil), s.kept[:best]...), s.kept[best+1:]...)
	return w, len(w.stack)
}

func isPrefix(a, b Stack) bool {
	if len(a) > len(b) {
		return false
	}
	for i := range a {
		if a[i].ID != b[i].ID {
			return false
		}
	}
	return true
}

// dropKept deletes all kept directories and the copies that views are.
func (s *Store) dropKept() error {
	s.mu.Lock()
	kept, views := s.kept, s.copies
	s.kept, s.copies = nil, nil
	s.mu.Unlock()
	var errs []error
	for _, w := range kept {
		errs = append(errs, w.remove())
	}
	for _, w := range views {
		errs = append(errs, w.remove())
	}
	return errors.Join(errs...)
}

// prepareCopy is Prepare of DriverCopy.
func (s *Store) prepareCopy(ctx context.Context, parent Stack) (*Active, error) {
	w, err := s.workDir(ctx, parent)
	if err != nil {
		return nil, err
	}
	return &Active{s: s, parent: w.stack, dir: w.dir, root: w.root, mount: Mount{Upper: w.tree()}, work: w}, nil
}

// viewCopy is View of DriverCopy: the layer's own directory where that is the whole
// stack, else a copy that lives as long as the store is open.
func (s *Store) viewCopy(ctx context.Context, stack Stack) (Mount, error) {
	if m, ok, err := s.viewSingle(ctx, stack); ok || err != nil {
		return m, err
	}
	key := stackKey(stack)
	s.mu.Lock()
	w := s.copies[key]
	s.mu.Unlock()
	if w != nil {
		return Mount{Lower: []string{w.tree()}}, nil
	}
	w, err := s.workDir(ctx, stack)
	if err != nil {
		return Mount{}, err
	}
	w.known = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.copies[key]; other != nil {
		return Mount{Lower: []string{other.tree()}}, w.remove()
	}
	if s.copies == nil {
		s.copies = map[string]*workDir{}
	}
	s.copies[key] = w
	return Mount{Lower: []string{w.tree()}}, nil
}

func stackKey(stack Stack) string {
	var b strings.Builder
	for _, l := range stack {
		b.WriteString(string(l.ID) + "\n")
	}
	return b.String()
}

// viewSingle is for a stack whose files are all in one layer.
func (s *Store) viewSingle(ctx context.Context, stack Stack) (Mount, bool, error) {
	var only Stack
	for _, l := range stack {
		if !l.Empty {
			only = append(only, l)
		}
	}
	switch {
	case len(only) == 0:
		return Mount{Lower: []string{s.path(emptyDir)}}, true, s.ensure(ctx, stack, false)
	case len(only) > 1:
		return Mount{}, false, nil
	}
	if err := s.ensure(ctx, stack, true); err != nil {
		return Mount{}, false, err
	}
	rec, err := s.loadLayer(only[0].ID)
	if err != nil || rec.Whiteouts {
		return Mount{}, false, err
	}
	dirs, root, err := s.lowers(stack)
	if err != nil {
		return Mount{}, false, err
	}
	same, err := s.maker.HasRoot(dirs[0], root)
	return Mount{Lower: dirs}, same, err
}

// notExisting leaves out the error that says that there is nothing.
func notExisting(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
