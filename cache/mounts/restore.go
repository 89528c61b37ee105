package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// Open opens a pack; the caller closes the reader, and verifies what it gives.
type Open func(ctx context.Context, p Pack) (io.ReadCloser, error)

// Restoring says how a content is restored.
type Restoring struct {
	Open  Open
	Maker *object.Maker
	// Scratch is an empty folder for packs that are used soon; they are never more than
	// Manifest.PackSize.
	Scratch string
}

const (
	// A batch of files is restored by one goroutine: so many files or bytes, or one file.
	batchFiles = 256
	batchBytes = 4 << 20
)

// Restore makes a folder with the content; nothing may be there. Every chunk is verified: the
// error matches ErrDamaged if one is not what it should be. What was made before an error is
// the caller's to remove. The folder is to lie where nobody else can write.
func (m *Manifest) Restore(ctx context.Context, dir string, how Restoring) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	root, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	r := &restorer{m: m, root: root, how: how, stream: newStream(m.Entries)}
	for _, step := range []func(context.Context) error{r.folders, r.files, r.others, r.finish} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return nil
}

// restorer makes one folder.
type restorer struct {
	m      *Manifest
	root   *os.File
	how    Restoring
	stream stream
}

// folders makes all folders, which are the process's alone until finish.
func (r *restorer) folders(ctx context.Context) error {
	w := newWalker(r.root, r.m.Entries)
	defer w.close()
	for i := 1; i < len(r.m.Entries); i++ {
		e := &r.m.Entries[i]
		if e.Kind != KindDir {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		parent, err := w.folder(e.Parent)
		if err != nil {
			return err
		}
		if err := unix.Mkdirat(int(parent.Fd()), e.Name, 0o700); err != nil {
			return fmt.Errorf("make folder %q: %w", e.Name, err)
		}
	}
	return nil
}

// files makes all regular files, several at once.
func (r *restorer) files(ctx context.Context) (err error) {
	batches := r.batches()
	f := newFetcher(r.m, batches, r.how)
	defer func() { err = errors.Join(err, f.close()) }()
	g, gctx := errgroup.WithContext(ctx)
	f.start(gctx, g)
	next := make(chan *batch)
	g.Go(func() error {
		defer close(next)
		for _, b := range batches {
			select {
			case next <- b:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		return nil
	})
	for range max(2, min(8, runtime.GOMAXPROCS(0))) {
		g.Go(func() error {
			w := newWalker(r.root, r.m.Entries)
			defer w.close()
			c, err := newChunks(r.m, f)
			if err != nil {
				return err
			}
			defer c.close()
			for b := range next {
				f.begin(gctx, b)
				if err := r.batch(gctx, b, w, c); err != nil {
					return err
				}
				f.used(b)
			}
			return nil
		})
	}
	return g.Wait()
}

// batch makes the files of a batch.
func (r *restorer) batch(ctx context.Context, b *batch, w *walker, c *chunks) error {
	c.begin(b.stream, b.skip)
	piece := b.piece
	for i := b.first; i < b.end; i++ {
		e := &r.m.Entries[i]
		if e.Kind != KindFile {
			continue
		}
		to := piece
		for to < len(r.stream.pieces) && r.stream.pieces[to].entry == i {
			to++
		}
		dir, err := w.folder(e.Parent)
		if err == nil {
			err = r.file(ctx, byName(dir, e.Name), e, r.stream.pieces[piece:to], c)
		}
		if err != nil {
			return fmt.Errorf("file %q: %w", e.Name, err)
		}
		piece = to
	}
	return nil
}

// file makes a regular file of the chunks that follow.
func (r *restorer) file(ctx context.Context, path string, e *Entry, pieces []piece, c *chunks) (err error) {
	meta := e.meta()
	if e.Size <= object.SmallFile && !e.Sparse {
		data := c.buffer[:e.Size]
		if err := c.readFull(ctx, data); err != nil {
			return err
		}
		return r.how.Maker.WriteFile(path, meta, data)
	}
	f, err := object.CreateFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if e.Sparse {
		if err := f.Truncate(e.Size); err != nil {
			return err
		}
	}
	for _, p := range pieces {
		if _, err := f.Seek(p.offset, io.SeekStart); err != nil {
			return err
		}
		if err := c.copyTo(ctx, f, p.length); err != nil {
			return err
		}
	}
	return r.how.Maker.SetFileMeta(f, meta)
}

// others makes what is neither folder nor file.
func (r *restorer) others(ctx context.Context) error {
	w, first := newWalker(r.root, r.m.Entries), newWalker(r.root, r.m.Entries)
	defer w.close()
	defer first.close()
	for i := range r.m.Entries {
		e := &r.m.Entries[i]
		if e.Kind == KindFile || e.Kind == KindDir {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := r.other(e, w, first); err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
	}
	return nil
}

func (r *restorer) other(e *Entry, w, first *walker) error {
	dir, err := w.folder(e.Parent)
	if err != nil {
		return err
	}
	if e.Kind != KindHard {
		meta := e.meta()
		if err := r.how.Maker.Create(byName(dir, e.Name), meta); err != nil {
			return err
		}
		return r.how.Maker.SetMeta(byName(dir, e.Name), meta)
	}
	of := &r.m.Entries[e.File]
	from, err := first.folder(of.Parent)
	if err != nil {
		return err
	}
	return unix.Linkat(int(from.Fd()), of.Name, int(dir.Fd()), e.Name, 0)
}

// finish gives the folders what is theirs: those in others first, since a folder may then be
// closed to this process, and its time is that of the last change.
func (r *restorer) finish(ctx context.Context) error {
	w := newWalker(r.root, r.m.Entries)
	defer w.close()
	for i := len(r.m.Entries) - 1; i >= 0; i-- {
		e := &r.m.Entries[i]
		if e.Kind != KindDir {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path := r.root.Name()
		if i > 0 {
			parent, err := w.folder(e.Parent)
			if err != nil {
				return err
			}
			path = byName(parent, e.Name)
		}
		if err := r.how.Maker.SetMeta(path, e.meta()); err != nil {
			return err
		}
	}
	return nil
}

// meta is what the store's own objects have of an entry.
func (e *Entry) meta() *manifest.Entry {
	m := &manifest.Entry{
		Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime,
		Size: e.Size, Linkname: e.Target, Xattrs: e.Xattrs,
	}
	switch e.Kind {
	case KindFile:
		m.Type = manifest.TypeFile
	case KindDir:
		m.Type = manifest.TypeDir
	case KindLink:
		m.Type = manifest.TypeSymlink
	case KindFifo:
		m.Type = manifest.TypeFifo
	}
	return m
}
