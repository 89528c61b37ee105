package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/progress"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/sparse"
)

// WriteDir writes the file systems into a directory, which is made if there is none. The
// files belong to this process; modes and times are those of the trees. What is there
// stays, unless remove says that what no tree has goes. How much is written is told to
// the context's progress, under the directory's name.
func (s Set) WriteDir(ctx context.Context, dir string, remove bool) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return mistake.New("output: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return mistake.New("output: %w", err)
	}
	defer root.Close()
	shown := &progress.Writer{W: io.Discard, To: progress.Of(ctx), Item: filepath.Base(dir), Total: -1}
	for _, t := range s.Trees {
		w := &dirWriter{root: root, tree: t, links: newLinks(t.Tree), shown: shown, epoch: s.Epoch, prefix: ".", fresh: map[string]bool{}}
		if s.Split {
			w.prefix = Folder(t.Platform)
		}
		if err := w.write(ctx); err != nil {
			return fmt.Errorf("write %s: %w", dir, err)
		}
	}
	if !remove {
		return nil
	}
	return removeOthers(root, s.has)
}

// has reports whether a path is one of those that are written.
func (s Set) has(p string) bool {
	if !s.Split {
		return slices.ContainsFunc(s.Trees, func(t Tree) bool { return hasPath(t, p) })
	}
	top, rest, below := strings.Cut(p, "/")
	return slices.ContainsFunc(s.Trees, func(t Tree) bool { return Folder(t.Platform) == top && (!below || hasPath(t, rest)) })
}

func hasPath(t snapshot.Tree, p string) bool {
	_, err := t.Lstat(p)
	return err == nil
}

// removeOthers removes what keep does not want.
func removeOthers(root *os.Root, keep func(string) bool) error {
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." || keep(p) {
			return err
		}
		if err := root.RemoveAll(p); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// dirWriter writes one tree below a directory, and never outside of it: os.Root
// follows no link that leads out, whatever is there already.
type dirWriter struct {
	root   *os.Root
	tree   snapshot.Tree
	links  *links
	prefix string
	epoch  *time.Time
	shown  *progress.Writer  // is told of all contents
	dirs   []*snapshot.Entry // whose modes and times are set when all is in them
	fresh  map[string]bool   // directories that were made now: nothing is in their way
}

func (w *dirWriter) write(ctx context.Context) error {
	err := snapshot.Walk(w.tree, ".", func(e *snapshot.Entry) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.entry(e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(w.dirs) {
		if err := w.finishDir(e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return nil
}

// finishDir gives a directory its mode and time. The directory that the user
// named stays as it is.
func (w *dirWriter) finishDir(e *snapshot.Entry) error {
	name := path.Join(w.prefix, e.Path)
	if name == "." {
		return nil
	}
	if err := w.root.Chmod(name, fileMode(e.Mode)); err != nil {
		return err
	}
	t := w.time(e)
	return w.root.Chtimes(name, t, t)
}

func (w *dirWriter) time(e *snapshot.Entry) time.Time {
	if w.epoch != nil {
		return *w.epoch
	}
	return e.ModTime
}

func (w *dirWriter) entry(e *snapshot.Entry) error {
	name := path.Join(w.prefix, e.Path)
	if e.Type == snapshot.TypeDir {
		w.dirs = append(w.dirs, e)
		return w.mkdir(name)
	}
	if !w.fresh[path.Dir(name)] {
		if err := w.root.RemoveAll(name); err != nil {
			return err
		}
	}
	if first, ok := w.links.first(e); ok {
		err := w.root.Link(path.Join(w.prefix, first), name)
		if e.Type == snapshot.TypeFile || !errors.Is(err, fs.ErrNotExist) {
			return err
		} // else a device that nobody can make here
	}
	switch e.Type {
	case snapshot.TypeSymlink:
		if err := w.root.Symlink(e.Linkname, name); err != nil {
			return err
		}
		return w.at(name, func(dir int, base string) error { return setTime(dir, base, w.time(e)) })
	case snapshot.TypeFile:
		return w.file(name, e)
	}
	return w.special(name, e)
}

func (w *dirWriter) mkdir(name string) error {
	if name == "." {
		return nil
	}
	if w.fresh[path.Dir(name)] {
		w.fresh[name] = true
		return w.root.Mkdir(name, 0o700)
	}
	st, err := w.root.Lstat(name)
	switch {
	case err == nil && st.IsDir():
		return w.root.Chmod(name, st.Mode().Perm()|0o700)
	case err == nil:
		if err := w.root.Remove(name); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	w.fresh[name] = true
	return w.root.Mkdir(name, 0o700)
}

func (w *dirWriter) file(name string, e *snapshot.Entry) error {
	src, err := w.tree.Open(e.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = sparse.CopyFrom(f, src, e.Size)
	if err == nil {
		w.shown.Done += e.Size
		w.shown.To(w.shown.Item, w.shown.Done, w.shown.Total)
	}
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		// What the caller may not set, or the file system does not know, is left
		// out, as by BuildKit.
		_ = unix.Fsetxattr(int(f.Fd()), k, []byte(e.Xattrs[k]), 0)
	}
	if err = errors.Join(err, f.Chmod(fileMode(e.Mode)), f.Close()); err != nil {
		return err
	}
	t := w.time(e)
	return w.root.Chtimes(name, t, t)
}

// special makes a device or a pipe.
func (w *dirWriter) special(name string, e *snapshot.Entry) error {
	var kind uint32
	switch e.Type {
	case snapshot.TypeChar:
		kind = unix.S_IFCHR
	case snapshot.TypeBlock:
		kind = unix.S_IFBLK
	case snapshot.TypeFifo:
		kind = unix.S_IFIFO
	default:
		return fmt.Errorf("an entry of type %q cannot be written", string(e.Type))
	}
	return w.at(name, func(dir int, base string) error {
		dev := unix.Mkdev(uint32(e.DevMajor), uint32(e.DevMinor))
		if err := unix.Mknodat(dir, base, kind|0o600, int(dev)); err != nil {
			return fmt.Errorf("make a device or pipe: %w", err)
		}
		if err := unix.Fchmodat(dir, base, e.Mode, 0); err != nil {
			return err
		}
		return setTime(dir, base, w.time(e))
	})
}

// at calls fn with the directory that has a path, and the path's last element.
func (w *dirWriter) at(name string, fn func(dir int, base string) error) error {
	d, err := w.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return fn(int(d.Fd()), path.Base(name))
}

func setTime(dir int, base string, t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// fileMode turns the bits of chmod(2) into Go's.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for bit, flag := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if mode&bit != 0 {
			m |= flag
		}
	}
	return m
}
