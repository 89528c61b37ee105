// Package collect says what a store holds, removes what nothing needs, and finds
// what is damaged.
package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// part is one thing in the store's folder: a layer, a blob, a cache mount, …
type part struct {
	bytes   int64 // on disk
	touched time.Time
}

// measure returns the parts of a store by their path below it, and the bytes of all.
// Files with several names count once, for the part where they are met first.
func measure(ctx context.Context, root string) (map[string]part, int64, error) {
	parts := map[string]part{}
	seen := map[[2]uint64]bool{}
	var total int64
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) && p != root {
				return nil // removed meanwhile
			}
			if errors.Is(err, fs.ErrPermission) && p != root {
				return nil // of a store without privileges; the directory itself is counted
			}
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fi, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no size is known", p)
		}
		bytes := st.Blocks * 512
		if st.Nlink > 1 && !d.IsDir() {
			inode := [2]uint64{uint64(st.Dev), st.Ino}
			if seen[inode] {
				bytes = 0
			}
			seen[inode] = true
		}
		total += bytes
		name := partOf(strings.TrimPrefix(strings.TrimPrefix(p, root), "/"))
		prev, known := parts[name]
		if !known { // the folder itself comes first
			prev.touched = fi.ModTime()
		}
		prev.bytes += bytes
		parts[name] = prev
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("measure store: %w", err)
	}
	return parts, total, nil
}

// Size measures the store.
func (s *Store) Size(ctx context.Context) (int64, error) {
	_, total, err := measure(ctx, s.Layers.Root())
	return total, err
}

// depths says how long the path of a part is in the folders that have many.
var depths = [...]struct {
	prefix string
	depth  int
}{
	{"layers/", 2}, {"blobs/sha256/", 3}, {"mounts/", 2}, {"contexts/", 2}, {"logs/", 2}, {"runs/", 2},
	{"sources/http/", 4}, {"sources/git/", 4}, {"cache/", 3},
}

// partOf returns the part that a path belongs to.
func partOf(rel string) string {
	for _, d := range depths {
		if !strings.HasPrefix(rel, d.prefix) {
			continue
		}
		elems := strings.SplitN(rel, "/", d.depth+1)
		return strings.Join(elems[:min(len(elems), d.depth)], "/")
	}
	top, _, _ := strings.Cut(rel, "/")
	return top
}
