package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/object"
)

// Reclaim removes what dead processes left in the store: their writable snapshots
// and temporary files. What belongs to a living process stays.
func (s *Store) Reclaim(ctx context.Context) error {
	var errs []error
	dead := map[string]bool{} // by owner
	for _, folder := range []string{activeDir, tmpDir} {
		names, err := os.ReadDir(s.path(folder))
		if err != nil {
			return fmt.Errorf("reclaim: %w", err)
		}
		for _, n := range names {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			owner, _, _ := strings.Cut(n.Name(), "-")
			isDead, known := dead[owner]
			if !known {
				if isDead, err = s.isDead(owner); err != nil {
					return fmt.Errorf("reclaim: %w", err)
				}
				dead[owner] = isDead
			}
			if isDead {
				errs = append(errs, files.RemoveAll(s.path(folder, n.Name())))
			}
		}
	}
	return errors.Join(append(errs, s.reclaimLocks(ctx))...)
}

// Abandoned returns the folders of writable snapshots that dead processes left.
// Reclaim removes them.
func (s *Store) Abandoned() ([]string, error) {
	names, err := os.ReadDir(s.path(activeDir))
	if err != nil {
		return nil, fmt.Errorf("look for abandoned snapshots: %w", err)
	}
	var out []string
	for _, n := range names {
		owner, _, _ := strings.Cut(n.Name(), "-")
		isDead, err := s.isDead(owner)
		if err != nil {
			return nil, fmt.Errorf("look for abandoned snapshots: %w", err)
		}
		if isDead {
			out = append(out, s.path(activeDir, n.Name()))
		}
	}
	return out, nil
}

// isDead reports whether nobody holds an owner's lock.
func (s *Store) isDead(owner string) (bool, error) {
	l, err := files.TryLockFile(s.path(locksDir, owner), files.Exclusive)
	if errors.Is(err, files.ErrLocked) {
		return false, nil
	}
	return err == nil, errors.Join(err, l.Remove())
}

// reclaimLocks removes lock files that nobody holds.
func (s *Store) reclaimLocks(ctx context.Context) error {
	names, err := os.ReadDir(s.path(locksDir))
	if err != nil {
		return fmt.Errorf("reclaim: %w", err)
	}
	for _, n := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := s.isDead(n.Name()); err != nil {
			return fmt.Errorf("reclaim: %w", err)
		}
	}
	return nil
}

// Usage returns the bytes on disk of a layer in all its forms, without blobs. What
// layers share by hard links (see Clamp) counts for each of them in proportion, so
// that the sum over all layers is what the disk holds.
func (s *Store) Usage(id LayerID) (int64, error) {
	if err := checkID(id); err != nil {
		return 0, err
	}
	var total int64
	var shared float64
	err := filepath.WalkDir(s.layerPath(id), func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := object.Lstat(p, &st); err != nil {
			return err
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			shared += float64(st.Blocks*512) / float64(st.Nlink)
			return nil
		}
		total += st.Blocks * 512
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("usage of layer %s: %w", id, err)
	}
	return total + int64(shared+0.5), nil
}
