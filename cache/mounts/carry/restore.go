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
// It is false if there is none that can be had, or made on this machine, of which the user is
// told; nothing is at dir then. An error is one of a place that must be readable, or of what
// was begun and cannot be removed, or the cause of ctx.
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

// fail remembers that a content cannot be restored. If the place does not give what it has,
// nothing is asked of it any more: one that is silent is waited for only once. What this
// machine cannot make, or has no room for, says nothing of other contents.
func (c *Carrier) fail(f *shared.FoundMount, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var p *placeError
	if errors.As(err, &p) && !isLost(err) {
		c.failed[f.Place()] = true
		return
	}
	c.failed[string(f.Manifest.Digest)] = true
}

// isLost reports whether a blob is damaged, or gone from its place.
func isLost(err error) bool {
	var p *placeError
	return errors.Is(err, mounts.ErrDamaged) || errors.As(err, &p) && errors.Is(err, fs.ErrNotExist)
}

// placeError is what a place said when a blob was asked for or read.
type placeError struct{ err error }

// Error implements error.
func (e *placeError) Error() string { return e.err.Error() }

// Unwrap returns what the place said.
func (e *placeError) Unwrap() error { return e.err }

// told is a place whose errors are known as its own.
type told struct{ opener }

// Open implements opener.
func (t told) Open(ctx context.Context, b shared.MountBlob) (io.ReadCloser, error) {
	r, err := t.opener.Open(ctx, b)
	if err != nil {
		return nil, &placeError{err}
	}
	return toldReader{r}, nil
}

type toldReader struct{ io.ReadCloser }

// Read implements io.Reader.
func (r toldReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // readers return it as it is
		err = &placeError{err}
	}
	return n, err
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
	place := told{f}
	m, err := c.manifest(ctx, place, &f.Mount)
	if err != nil {
		return err
	}
	if c.opts.Grow != nil {
		done, gerr := c.opts.Grow(ctx, m.Size(), m.PackSize())
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
			return place.Open(ctx, shared.MountBlob{Type: shared.MountPack, Digest: p.Digest, Size: p.Size})
		},
	})
}
