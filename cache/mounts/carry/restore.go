package carry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/mounts"
	"layered.build/builder/cache/shared"
	"layered.build/builder/snapshot/files"
)

// tries is how many contents of a mount are tried to be restored.
const tries = 3

// Restore makes a folder, where nothing is, with the best content that a place has of a mount.
// It is false if there is none that can be had, of which the user is told; nothing is at dir
// then. An error is one of this machine or of a place that must be readable, or the cause of
// ctx.
func (c *Carrier) Restore(ctx context.Context, name Name, dir string) (bool, error) {
	if c.opts.Find == nil {
		return false, nil
	}
	found, err := c.opts.Find(ctx, name.MountName, name.Key)
	if err != nil {
		return false, err
	}
	for n, f := range found {
		if n == tries {
			break
		}
		if c.hasFailed(f) {
			continue
		}
		err := c.restore(ctx, f, dir)
		if err == nil {
			return true, nil
		}
		if rerr := files.RemoveAll(dir); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			return false, errors.Join(err, rerr)
		}
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		c.fail(f, err)
		c.opts.Tell(fmt.Sprintf("cache %s: cache mount %q cannot be restored: %v", f.Place(), name.ID, err))
	}
	return false, nil
}

// hasFailed reports whether a content, or its place, need not be tried again.
func (c *Carrier) hasFailed(f *shared.FoundMount) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed[string(f.Manifest.Digest)] || c.failed[f.Place()]
}

// fail remembers that a content cannot be restored; if it is not the content that is wrong,
// nothing is asked of the place any more: one that is silent is waited for only once.
func (c *Carrier) fail(f *shared.FoundMount, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if isLost(err) || errors.Is(err, mounts.ErrLimit) {
		c.failed[string(f.Manifest.Digest)] = true
		return
	}
	c.failed[f.Place()] = true
}

// isLost reports whether a blob is damaged or gone.
func isLost(err error) bool {
	return errors.Is(err, mounts.ErrDamaged) || errors.Is(err, fs.ErrNotExist)
}

// restore restores one content. What of it is damaged or gone is sent again by who sends.
func (c *Carrier) restore(ctx context.Context, f *shared.FoundMount, dir string) error {
	var failed error // of the restoring, which is not shown as a failure
	err := c.opts.Task(ctx, fmt.Sprintf("restoring cache mount %s from %s", f.ID, f.Place()), func(ctx context.Context) error {
		failed = c.fill(ctx, f, dir)
		return nil
	})
	var pack *mounts.PackError
	switch {
	case !isLost(failed):
	case errors.As(failed, &pack):
		f.Spoiled(pack.Pack)
	default:
		f.Spoiled(f.Manifest.Digest)
	}
	return errors.Join(err, failed)
}

func (c *Carrier) fill(ctx context.Context, f *shared.FoundMount, dir string) (err error) {
	m, err := c.manifest(ctx, f, &f.Mount)
	if err != nil {
		return err
	}
	if c.opts.Grow != nil {
		done, gerr := c.opts.Grow(ctx, m.Size())
		if gerr != nil {
			return gerr
		}
		defer func() { done(err) }()
	}
	scratch, err := files.NewScratch(filepath.Dir(dir), "packs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Remove()) }()
	packs := map[digest.Digest]bool{}
	for _, p := range f.Packs {
		packs[p.Digest] = true
	}
	return m.Restore(ctx, dir, mounts.Restoring{
		Maker: c.opts.Maker, Scratch: scratch.Dir(),
		Open: func(ctx context.Context, p mounts.Pack) (io.ReadCloser, error) {
			if !packs[p.Digest] { // the place need not keep it
				return nil, fmt.Errorf("the index does not name it: %w", mounts.ErrDamaged)
			}
			return f.Open(ctx, shared.MountBlob{Type: shared.MountPack, Digest: p.Digest, Size: p.Size})
		},
	})
}
