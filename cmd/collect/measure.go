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

	"layered.build/builder/snapshot/gc"
)

// part is one thing in the store's folder: a layer, a blob, a cache mount, …
type part struct {
	bytes   int64 // on disk
	touched time.Time
}

// measured is what one walk through a store has found.
type measured struct {
	folders []gc.Folder
	parts   map[string]part // by their path below the store
	total   int64           // bytes of all
	seen    map[inode]bool
}

// inode is a file with several names.
type inode struct{ dev, ino uint64 }

// measure walks through the store. Files with several names count once, for the part
// where they are met first.
func (s *Store) measure(ctx context.Context) (*measured, error) {
	m := &measured{parts: map[string]part{}, seen: map[inode]bool{}}
	for _, k := range s.Keepers {
		m.folders = append(m.folders, k.Folders()...)
	}
	root := s.Layers.Root()
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
		return m.add(strings.TrimPrefix(strings.TrimPrefix(p, root), "/"), fi)
	})
	if err != nil {
		return nil, fmt.Errorf("measure store: %w", err)
	}
	return m, nil
}

// add counts one file or folder, by its path below the store.
func (m *measured) add(rel string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no size is known", rel)
	}
	bytes := st.Blocks * 512
	if st.Nlink > 1 && !fi.IsDir() {
		file := inode{uint64(st.Dev), st.Ino}
		if m.seen[file] {
			bytes = 0
		}
		m.seen[file] = true
	}
	m.total += bytes
	name := m.partOf(rel)
	p, known := m.parts[name]
	if !known { // the folder itself comes first
		p.touched = fi.ModTime()
	}
	p.bytes += bytes
	m.parts[name] = p
	return nil
}

// partOf returns the part that a path belongs to: what the keeper of its folder says, or
// the folder of the store that it is in.
func (m *measured) partOf(rel string) string {
	for _, f := range m.folders {
		below, ok := strings.CutPrefix(rel, f.Name+"/")
		if !ok {
			continue
		}
		elems := strings.SplitN(below, "/", f.Depth+1)
		return f.Name + "/" + strings.Join(elems[:min(len(elems), f.Depth)], "/")
	}
	top, _, _ := strings.Cut(rel, "/")
	return top
}

// Size measures the store.
func (s *Store) Size(ctx context.Context) (int64, error) {
	m, err := s.measure(ctx)
	if err != nil {
		return 0, err
	}
	return m.total, nil
}
