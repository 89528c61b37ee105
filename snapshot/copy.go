package snapshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"layered.build/builder/snapshot/diff"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/workdir"
)

// laidOut is a stack as plain files, which a Store keeps.
type laidOut struct {
	*workdir.Dir
	dir   string // holds the files, and belongs to this process
	stack Stack  // what the files are equal to, but for what ran since
}

// keptDirs is how many committed working directories a store keeps to continue
// from. One is what a chain of steps needs; the second is for a stage beside it.
const keptDirs = 2

// workDir lays out a stack: on top of a kept directory if one has the lower layers
// of the stack, else anew.
func (s *Store) workDir(ctx context.Context, stack Stack) (*laidOut, error) {
	if err := s.ensure(ctx, stack, false); err != nil {
		return nil, err
	}
	_, root, err := s.lowers(stack)
	if err != nil {
		return nil, err
	}
	w, have := s.takeKept(stack)
	if w == nil {
		if w, err = s.newLaidOut(); err != nil {
			return nil, err
		}
	}
	err = s.fill(ctx, w, stack, have)
	if err == nil {
		err = w.Ready(root)
	}
	if err != nil {
		return nil, errors.Join(err, w.remove())
	}
	return w, nil
}

func (s *Store) newLaidOut() (*laidOut, error) {
	dir, err := s.lease.TempDir(activeDir)
	if err != nil {
		return nil, err
	}
	m := s.maker
	if s.emulated {
		m = m.ForProcesses()
	}
	w, err := workdir.New(m, filepath.Join(dir, "tree"))
	if err != nil {
		return nil, errors.Join(err, files.RemoveAll(dir))
	}
	return &laidOut{Dir: w, dir: dir}, nil
}

// fill makes a directory equal to a stack, of which it has the lowest layers.
func (s *Store) fill(ctx context.Context, w *laidOut, stack Stack, have int) error {
	w.stack = slices.Clone(stack)
	if have == len(stack) {
		return nil
	}
	merged, err := s.stackTree(ctx, stack, nil)
	if err != nil {
		return err
	}
	if have == 0 {
		return w.Dir.Fill(ctx, merged)
	}
	fresh := map[LayerID]bool{}
	for _, l := range stack[have:] {
		fresh[l.ID] = true
	}
	return w.Update(ctx, merged, len(fresh))
}

// remove deletes the directory.
func (w *laidOut) remove() error { return files.RemoveAll(w.dir) }

// tree is the directory with the files.
func (w *laidOut) tree() string { return w.Path() }

// keep holds a directory that is equal to its stack.
func (s *Store) keep(w *laidOut) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return w.remove()
	}
	s.kept = append(s.kept, w)
	var gone *laidOut
	if len(s.kept) > keptDirs {
		gone, s.kept = s.kept[0], append([]*laidOut(nil), s.kept[1:]...)
	}
	s.mu.Unlock()
	if gone != nil {
		return gone.remove()
	}
	return nil
}

// takeKept returns the kept directory that has most of a stack, and how many of the
// stack's layers it has; nil if none has any.
func (s *Store) takeKept(stack Stack) (*laidOut, int) {
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
	s.kept = append(append([]*laidOut(nil), s.kept[:best]...), s.kept[best+1:]...)
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
	return &Active{s: s, parent: w.stack, dir: w.dir, mount: Mount{Upper: w.tree()}, work: w}, nil
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
	w.Forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.copies[key]; other != nil {
		return Mount{Lower: []string{other.tree()}}, w.remove()
	}
	if s.copies == nil {
		s.copies = map[string]*laidOut{}
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

// commitCopy makes a layer of what differs in the working directory, as a tar, and
// keeps the directory for the next step.
func (a *Active) commitCopy(ctx context.Context, tmp string, opts CommitOptions) (_ Layer, err error) {
	w := a.work
	defer func() {
		if err != nil {
			err = errors.Join(err, w.remove())
		}
	}()
	if err := diff.RemoveStubs(w.tree(), opts.RemovePaths); err != nil {
		return Layer{}, err
	}
	below, err := a.s.stackTree(ctx, a.parent, nil)
	if err != nil {
		return Layer{}, err
	}
	out, err := os.OpenFile(filepath.Join(tmp, tarForm), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return Layer{}, err
	}
	defer out.Close()
	d := w.Diff(below, opts.Epoch)
	l, err := a.s.makeLayer(ctx, a.parent, layerMaking{tmp: tmp, out: out, epoch: opts.Epoch, look: opts.Inspect, tap: opts.Tap, named: opts.Named,
		walk: d.Walk, aliases: d.Aliases, settle: d.Settle,
	})
	if err != nil {
		return Layer{}, err
	}
	if d.Torn() {
		return l, w.remove()
	}
	if err := d.Adopt(); err != nil {
		return Layer{}, err
	}
	w.stack = append(a.Parent(), l)
	return l, a.s.keep(w)
}
