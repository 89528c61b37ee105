package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/sparse"
)

// derivation makes a layer out of another one: with other times, or only on other
// layers.
type derivation struct {
	s     *Store
	rec   *layerRecord // of the original
	below Stack
	epoch time.Time
	keep  bool // the times stay as they are
}

// known returns the derived layer if the store has it.
func (d *derivation) known() (Layer, bool) {
	if d.keep {
		return d.s.lookupID(idOf(extend(d.below, d.rec.Layer.DiffID)))
	}
	for _, c := range d.s.clampedAs(d.rec.Layer.ID) {
		if c.Epoch == d.epoch.Unix() {
			return d.s.lookupID(idOf(extend(d.below, c.DiffID)))
		}
	}
	return Layer{}, false
}

// run makes the layer. The caller holds the original's lock.
func (d *derivation) run(ctx context.Context) (_ Layer, err error) {
	tmp, err := d.s.lease.TempDir(tmpDir)
	if err != nil {
		return Layer{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.RemoveAll(tmp))
		}
	}()
	if d.s.hasForm(d.rec.Layer.ID, lackingFile) { // what is linked lacks it too
		if err := os.WriteFile(filepath.Join(tmp, lackingFile), nil, 0o600); err != nil {
			return Layer{}, err
		}
	}
	if d.keep {
		return d.move(ctx, tmp)
	}
	l, err := d.remake(ctx, tmp)
	if err != nil {
		return Layer{}, err
	}
	return l, d.s.remember(d.rec.Layer.ID, clamped{Epoch: d.epoch.Unix(), DiffID: l.DiffID})
}

func (d *derivation) path(elem ...string) string { return d.s.layerPath(d.rec.Layer.ID, elem...) }

// move links all that the layer consists of.
func (d *derivation) move(ctx context.Context, tmp string) (Layer, error) {
	for _, name := range []string{manifestFile, tarForm, splitFile, blobFile} {
		err := unix.Link(d.path(name), filepath.Join(tmp, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Layer{}, fmt.Errorf("link %s: %w", name, err)
		}
	}
	for _, name := range []string{dirForm, dupForm} {
		if !d.s.hasForm(d.rec.Layer.ID, name) {
			continue
		}
		if err := d.linkDir(ctx, d.path(name), filepath.Join(tmp, name), ".", nil); err != nil {
			return Layer{}, err
		}
	}
	rec := *d.rec
	rec.Layer.ID = idOf(extend(d.below, rec.Layer.DiffID))
	rec.holes = rec.Layer.Size // links take no room
	return d.s.publish(tmp, &rec)
}

// remake makes the tar, which tells the DiffID, and the manifest anew. Contents
// are linked where the original has a directory and copied where it has a tar.
func (d *derivation) remake(ctx context.Context, tmp string) (Layer, error) {
	idx, err := manifest.Open(d.path(manifestFile))
	if err != nil {
		return Layer{}, err
	}
	src := &derivedItems{idx: idx, epoch: &d.epoch}
	m := layerMaking{tmp: tmp, epoch: &d.epoch, walk: src.walk, settle: func() error { return nil }, aliases: d.rec.aliases, created: d.rec.Layer.Created}
	isDir := d.s.hasForm(d.rec.Layer.ID, dirForm)
	linked := false
	if isDir {
		src.dir = d.path(dirForm)
		if linked, err = d.tryLinkDir(ctx, filepath.Join(tmp, dirForm), idx); err != nil {
			return Layer{}, err
		}
	} else {
		if src.tar, err = os.Open(d.path(tarForm)); err != nil {
			return Layer{}, err
		}
		defer src.tar.Close()
	}
	if !linked {
		if m.out, err = os.OpenFile(filepath.Join(tmp, tarForm), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return Layer{}, err
		}
		defer m.out.Close()
	}
	return d.s.makeLayer(ctx, d.below, m)
}

// tryLinkDir is linkDir that is false, and leaves nothing, where the file system
// refuses links: one file has too many, or not everyone may link it.
func (d *derivation) tryLinkDir(ctx context.Context, dst string, idx *manifest.Index) (bool, error) {
	err := d.linkDir(ctx, d.path(dirForm), dst, ".", idx)
	if errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) {
		return false, files.RemoveAll(dst)
	}
	return err == nil, err
}

// linkDir makes a copy of a directory whose files are hard links. What is on disk
// counts, not the manifest: below an opaque directory there is more. The times of
// files are their inode's; those of directories are limited if idx is given.
func (d *derivation) linkDir(ctx context.Context, src, dst, rel string, idx *manifest.Index) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var st unix.Stat_t
	if err := object.Lstat(src, &st); err != nil {
		return fmt.Errorf("stat %s: %w", src, err)
	}
	e, opaque, err := d.s.maker.Describe(src, &st)
	if err != nil {
		return err
	}
	e.Opaque = opaque
	list, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	if err := d.s.maker.Create(dst, &e); err != nil {
		return err
	}
	for _, f := range list {
		from, to := src+"/"+f.Name(), dst+"/"+f.Name()
		if f.IsDir() {
			if err := d.linkDir(ctx, from, to, filepath.Join(rel, f.Name()), idx); err != nil {
				return err
			}
		} else if err := unix.Link(from, to); err != nil {
			return fmt.Errorf("link %s: %w", from, err)
		}
	}
	if idx != nil {
		if r, err := idx.Find(rel); err == nil {
			e.ModTime, e.RealTime = r.ModTime, r.RealTime
		}
		e.Limit(e.TrueTime(), &d.epoch)
	}
	return d.s.maker.SetMeta(dst, &e)
}

// derivedItems are the entries of a layer, maybe with other times.
type derivedItems struct {
	idx   *manifest.Index
	epoch *time.Time // nil: the times stay as they are
	dir   string     // where the contents are; "": in tar
	tar   *os.File
}

func (t *derivedItems) walk(_ context.Context, emit func(pack.Item) error) error {
	linked, err := t.linked()
	if err != nil {
		return err
	}
	for i := range t.idx.Len() {
		r, err := t.idx.Record(i)
		if err != nil {
			return err
		}
		if t.epoch != nil && r.Type != TypeWhiteout {
			r.Limit(r.TrueTime(), t.epoch)
		}
		it := pack.Item{Record: *r, Want: r.Digest, Linked: linked[r.Path]}
		switch {
		case r.Type != TypeFile || r.Hardlink != "":
		case t.dir != "":
			it.Host = filepath.Join(t.dir, r.Path)
		case r.Size > 0:
			it.Open = func() (io.ReadCloser, error) {
				return sparse.NewSection(t.tar, r.Offset, r.Size, false), nil
			}
		}
		if err := emit(it); err != nil {
			return err
		}
	}
	return nil
}

// linked returns the files that others are hard links to.
func (t *derivedItems) linked() (map[string]bool, error) {
	linked := map[string]bool{}
	for i := range t.idx.Len() {
		r, err := t.idx.Record(i)
		if err != nil {
			return nil, err
		}
		if r.Hardlink != "" {
			linked[r.Hardlink] = true
		}
	}
	return linked, nil
}
