package workdir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/sparse"
	"layered.build/builder/snapshot/tree"
)

// filler makes objects of a stack in a Dir. Files are copied, never linked to
// those of layers: a process may write to them.
type filler struct {
	w    *Dir
	tree *tree.Merged
	jobs chan tree.Placed
	made []string           // all paths, parents first
	dirs []*manifest.Record // made or changed; completed last
	// links are the further names of files, made when the first is there.
	links []linkJob
	first map[string]string // name of a file in its layer, to where it was made
	done  map[string]bool   // paths that were made; only where some were there before
}

type linkJob struct{ from, to string }

// Fill makes all objects of a stack in the directory, which is empty. After an error
// it is in no defined state.
func (w *Dir) Fill(ctx context.Context, merged *tree.Merged) error {
	f := newFiller(w, merged)
	return f.run(ctx, func(ctx context.Context) error { return f.children(ctx, ".") })
}

// Update makes a directory that has all but the fresh topmost layers of a stack equal
// to it. After an error it is in no defined state.
func (w *Dir) Update(ctx context.Context, merged *tree.Merged, fresh int) error {
	f := newFiller(w, merged)
	return f.run(ctx, func(ctx context.Context) error { return f.above(ctx, fresh) })
}

func newFiller(w *Dir, merged *tree.Merged) *filler {
	return &filler{w: w, tree: merged, jobs: make(chan tree.Placed, 64), first: map[string]string{}}
}

// run has files copied while walk makes the other objects.
func (f *filler) run(ctx context.Context, walk func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(f.jobs)
		return walk(gctx)
	})
	for range max(2, min(8, runtime.GOMAXPROCS(0))) {
		g.Go(func() error {
			c := copier{m: f.w.m}
			for p := range f.jobs {
				if err := c.copy(p, f.w.host(p.Path)); err != nil {
					return fmt.Errorf("copy /%s: %w", p.Path, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return f.finish()
}

// finish makes hard links, completes directories and notes what everything is.
func (f *filler) finish() error {
	for _, l := range f.links {
		if err := unix.Link(f.w.host(l.from), f.w.host(l.to)); err != nil {
			return fmt.Errorf("link /%s to /%s: %w", l.to, l.from, err)
		}
	}
	for i := len(f.dirs) - 1; i >= 0; i-- {
		d := f.dirs[i]
		if err := f.w.m.SetMeta(f.w.host(d.Path), &d.Entry); err != nil {
			return err
		}
	}
	for _, p := range f.made {
		if err := f.w.remember(p); err != nil {
			return err
		}
	}
	return nil
}

// children makes all that is below a directory.
func (f *filler) children(ctx context.Context, dir string) error {
	list, err := f.tree.List(dir)
	if err != nil {
		return err
	}
	for _, p := range list {
		if err := f.object(ctx, p); err != nil {
			return err
		}
		if p.Type == manifest.TypeDir {
			if err := f.children(ctx, p.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// object makes one object where there is none.
func (f *filler) object(ctx context.Context, p tree.Placed) error {
	f.made = append(f.made, p.Path)
	if f.done != nil {
		f.done[p.Path] = true
	}
	if p.Type == manifest.TypeDir {
		f.dirs = append(f.dirs, p.Record)
		return f.w.m.Create(f.w.host(p.Path), &p.Entry)
	}
	// What a layer links to layers below it stays apart here: a process that writes to one
	// of the names would change the other, which overlay does not do.
	key := p.Layer.Dir + "\x00" + p.Path
	if p.Hardlink != "" {
		key = p.Layer.Dir + "\x00" + p.Hardlink
	}
	if first, ok := f.first[key]; ok {
		f.links = append(f.links, linkJob{first, p.Path})
		return nil
	}
	f.first[key] = p.Path
	if p.Type == manifest.TypeFile {
		select {
		case f.jobs <- p:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	host := f.w.host(p.Path)
	if err := f.w.m.Create(host, &p.Entry); err != nil {
		return err
	}
	return f.w.m.SetMeta(host, &p.Entry)
}

// above applies the n topmost layers of the stack to a directory that has the others.
func (f *filler) above(ctx context.Context, n int) error {
	f.done = map[string]bool{}
	var paths []string
	for i := range min(n, len(f.tree.Layers)) {
		idx := f.tree.Layers[i].Index
		for j := range idx.Len() {
			r, err := idx.Record(j)
			if err != nil {
				return err
			}
			if r.Path != "." {
				paths = append(paths, r.Path)
			}
		}
	}
	slices.SortFunc(paths, manifest.ComparePaths)
	for _, p := range slices.Compact(paths) {
		if f.done[p] {
			continue
		}
		if err := f.replace(ctx, p, n); err != nil {
			return fmt.Errorf("update /%s: %w", p, err)
		}
	}
	return nil
}

// replace makes the object at a path what the stack says; n layers are new. What
// is above it has been handled.
func (f *filler) replace(ctx context.Context, p string, n int) error {
	if dir, err := f.tree.Lstat(path.Dir(p)); err != nil || dir.Type != manifest.TypeDir {
		return notExisting(err) // gone with its directory
	}
	now, layer, err := f.tree.Lookup("lstat", p)
	if notExisting(err) != nil {
		return err
	}
	exists := err == nil
	var st unix.Stat_t
	serr := object.Lstat(f.w.host(p), &st)
	isDir := serr == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
	if exists && now.Type == manifest.TypeDir && isDir {
		from, err := f.tree.DirLayers(p)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(from, func(i int) bool { return i >= n }) {
			f.made, f.dirs = append(f.made, p), append(f.dirs, now)
			return nil
		} // else all that is in it is hidden
	}
	if serr == nil {
		if err := f.discard(p, isDir); err != nil {
			return err
		}
	}
	if !exists {
		return nil
	}
	if err := f.object(ctx, tree.Placed{Record: now, Layer: layer}); err != nil || now.Type != manifest.TypeDir {
		return err
	}
	return f.children(ctx, p)
}

// discard removes an object and what is known of it.
func (f *filler) discard(rel string, isDir bool) error {
	delete(f.w.known, rel)
	if !isDir {
		return unix.Unlink(f.w.host(rel))
	}
	for k := range f.w.known {
		if manifest.IsBelow(k, rel) {
			delete(f.w.known, k)
		}
	}
	return files.RemoveAll(f.w.host(rel))
}

// copier copies files out of layers.
type copier struct {
	m   *object.Maker
	buf []byte
	// noClone: the file system refused to share blocks.
	noClone bool
}

func (c *copier) copy(p tree.Placed, dest string) error {
	if p.Size <= object.SmallFile {
		return c.small(p, dest)
	}
	src, off, err := p.Layer.OpenFile(p.Record)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := object.CreateFile(dest)
	if err != nil {
		return err
	}
	err = c.content(dst, src, off, p.Size)
	if err == nil {
		err = c.m.SetFileMeta(dst, &p.Entry)
	}
	return errors.Join(err, dst.Close())
}

func (c *copier) small(p tree.Placed, dest string) error {
	if c.buf == nil {
		c.buf = make([]byte, object.SmallFile+1)
	}
	n, err := object.ReadFile(filepath.Join(p.Layer.Dir, p.Path), c.buf[:p.Size+1])
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		var r io.ReadCloser
		if r, err = p.Layer.Open(p.Record); err == nil {
			n, err = io.ReadFull(r, c.buf[:p.Size])
			err = errors.Join(err, r.Close())
		}
	}
	if err != nil {
		return err
	}
	if int64(n) != p.Size {
		return object.ErrSize
	}
	return c.m.WriteFile(dest, &p.Entry, c.buf[:n])
}

// content copies inside the kernel: by sharing blocks where the file system can.
func (c *copier) content(dst, src *os.File, off, size int64) error {
	if off == 0 && !c.noClone {
		var st unix.Stat_t
		if unix.Fstat(int(src.Fd()), &st) == nil && st.Size == size {
			if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
				return nil
			}
			c.noClone = true
		}
	}
	return sparse.Copy(dst, src, off, size)
}

// notExisting leaves out the error that says that there is nothing.
func notExisting(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
