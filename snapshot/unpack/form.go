package unpack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/sparse"
)

// Form makes what a manifest lists in an empty directory; contents are in the
// canonical tar.
func Form(ctx context.Context, m *object.Maker, idx *manifest.Index, tar *os.File, dir string) error {
	u := &unpacker{m: m, tar: tar, dir: dir}
	return u.run(ctx, idx)
}

// unpacker makes a directory from a manifest and the canonical tar beside it.
type unpacker struct {
	m   *object.Maker
	tar *os.File
	dir string
}

func (u *unpacker) run(ctx context.Context, idx *manifest.Index) error {
	g, ctx := errgroup.WithContext(ctx)
	files := make(chan *manifest.Record, 64)
	var dirs, links []*manifest.Record
	g.Go(func() error {
		defer close(files)
		for i := range idx.Len() {
			r, err := idx.Record(i)
			if err != nil {
				return err
			}
			switch {
			case r.Hardlink != "":
				links = append(links, r)
				continue
			case r.Type == manifest.TypeFile:
				select {
				case files <- r:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				continue
			case r.Type == manifest.TypeDir:
				dirs = append(dirs, r)
			}
			if err := u.object(r); err != nil {
				return err
			}
		}
		return nil
	})
	for range max(2, min(8, runtime.GOMAXPROCS(0))) {
		g.Go(func() error {
			var buf []byte
			for r := range files {
				if err := u.file(r, &buf); err != nil {
					return fmt.Errorf("unpack %s: %w", r.Path, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, r := range links {
		if err := unix.Link(filepath.Join(u.dir, r.Hardlink), filepath.Join(u.dir, r.Path)); err != nil {
			return fmt.Errorf("unpack %s: link: %w", r.Path, err)
		}
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := u.m.SetMeta(filepath.Join(u.dir, dirs[i].Path), &dirs[i].Entry); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) object(r *manifest.Record) error {
	p := filepath.Join(u.dir, r.Path)
	if err := u.m.Create(p, &r.Entry); err != nil || r.Type == manifest.TypeDir {
		return err
	}
	return u.m.SetMeta(p, &r.Entry)
}

func (u *unpacker) file(r *manifest.Record, buf *[]byte) error {
	p := filepath.Join(u.dir, r.Path)
	if r.Size > object.SmallFile {
		return u.large(p, r)
	}
	if cap(*buf) < int(r.Size) {
		*buf = make([]byte, object.SmallFile)
	}
	b := (*buf)[:r.Size]
	if _, err := u.tar.ReadAt(b, r.Offset); err != nil && r.Size > 0 {
		return noEOF(err)
	}
	return u.m.WriteFile(p, &r.Entry, b)
}

// large copies inside the kernel.
func (u *unpacker) large(p string, r *manifest.Record) (err error) {
	f, err := object.CreateFile(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// Workers share u.tar, whose position looking for holes moves.
	tar, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", u.tar.Fd()))
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := sparse.Copy(f, tar, r.Offset, r.Size); err != nil {
		return err
	}
	return u.m.SetFileMeta(f, &r.Entry)
}
