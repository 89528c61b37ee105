// Package contenthash computes digests of selected paths of a tree: names, types,
// modes, owners, link targets, extended attributes and bytes, without times.
package contenthash

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io/fs"
	"runtime"
	"slices"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/snapshot"
)

// Options refine Paths.
type Options struct {
	// Skip, if set, leaves out an object (and for a directory all below it).
	Skip func(e *snapshot.Entry) bool
	// IgnoreOwner leaves uid and gid out (COPY sets them anyway).
	IgnoreOwner bool
	// IgnoreMode leaves the permission bits out.
	IgnoreMode bool
	// Each, if set, is told of every object: its path, and the bytes that count of it,
	// which are only valid during the call.
	Each func(path string, what []byte)
}

// window is how many files may be hashed ahead of the one whose turn it is.
const window = 256

// Paths returns one digest of the objects at the given paths and all below them.
// Symlinks are hashed, not followed: resolve paths first. A path that does not
// exist is an error that matches fs.ErrNotExist. The order of paths counts.
func Paths(ctx context.Context, t snapshot.Tree, paths []string, opts Options) (digest.Digest, error) {
	g, ctx := errgroup.WithContext(ctx)
	order := make(chan *item, window)
	work := make(chan *item, window)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		for _, p := range paths {
			if err := walk(ctx, t, p, opts, order, work); err != nil {
				return err
			}
		}
		return nil
	})
	for range max(2, runtime.GOMAXPROCS(0)) {
		g.Go(func() error {
			for it := range work {
				if it.digest, it.err = t.Digest(it.entry.Path); it.err == nil {
					// A file that changed since it was listed has other attributes now.
					it.entry, it.err = t.Lstat(it.entry.Path)
				}
				close(it.ready)
			}
			return nil
		})
	}
	h := sha256.New()
	g.Go(func() error { return sum(h, order, opts) })
	if err := g.Wait(); err != nil {
		return "", fmt.Errorf("hash content: %w", err)
	}
	return digest.NewDigest(digest.SHA256, h), nil
}

// item is an object on its way into the digest.
type item struct {
	entry  *snapshot.Entry
	root   bool // begins one of the paths
	ready  chan struct{}
	digest digest.Digest
	err    error
}

func walk(ctx context.Context, t snapshot.Tree, root string, opts Options, order, work chan<- *item) error {
	return snapshot.Walk(t, root, func(e *snapshot.Entry) error {
		if opts.Skip != nil && opts.Skip(e) {
			if e.Type == snapshot.TypeDir {
				return fs.SkipDir
			}
			return nil
		}
		it := &item{entry: e, root: e.Path == root, digest: e.Digest}
		if e.Type == snapshot.TypeFile && e.Digest == "" {
			it.ready = make(chan struct{})
			if err := send(ctx, work, it); err != nil {
				return err
			}
		}
		return send(ctx, order, it)
	})
}

func send(ctx context.Context, c chan<- *item, it *item) error {
	select {
	case c <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func sum(h hash.Hash, order <-chan *item, opts Options) error {
	var buf []byte
	for it := range order {
		if it.ready != nil {
			<-it.ready
		}
		if it.err != nil {
			return it.err
		}
		buf = appendItem(buf[:0], it, opts)
		if opts.Each != nil {
			opts.Each(it.entry.Path, buf)
		}
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(buf)))
		h.Write(n[:])
		h.Write(buf)
	}
	return nil
}

// appendItem encodes what counts of an object (docs/FORMAT.md, "Content of
// paths").
func appendItem(b []byte, it *item, opts Options) []byte {
	e := it.entry
	b = append(b, byte(e.Type))
	if it.root {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = text(b, e.Path)
	if !opts.IgnoreMode && e.Type != snapshot.TypeSymlink {
		b = binary.AppendUvarint(b, uint64(e.Mode))
	}
	if !opts.IgnoreOwner {
		b = binary.AppendUvarint(b, uint64(e.UID))
		b = binary.AppendUvarint(b, uint64(e.GID))
	}
	b = text(b, string(it.digest))
	b = text(b, e.Linkname)
	if e.Type == snapshot.TypeChar || e.Type == snapshot.TypeBlock {
		b = binary.AppendVarint(b, e.DevMajor)
		b = binary.AppendVarint(b, e.DevMinor)
	}
	return xattrs(b, e.Xattrs)
}

func xattrs(b []byte, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		if snapshot.IsLayerXattr(k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = text(text(b, k), m[k])
	}
	return b
}

func text(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
