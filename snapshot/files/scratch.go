package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Scratch is a folder for what a process needs for a while. It is locked while its
// maker lives; those that dead processes left are removed by Sweep, or by the next
// process that makes one beside them.
type Scratch struct {
	dir  string
	lock *Lock
}

// NewScratch makes a folder with mode 0700 whose name begins with prefix, in a folder
// that is made (with mode 0711) where there is none. It is the caller's to remove.
func NewScratch(parent, prefix string) (*Scratch, error) {
	if err := os.MkdirAll(parent, 0o711); err != nil {
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	Sweep(parent, prefix) // what cannot be removed is in nobody's way
	for {
		dir, err := os.MkdirTemp(parent, prefix)
		if err != nil {
			return nil, fmt.Errorf("make scratch folder: %w", err)
		}
		switch lock, err := TryLockExisting(dir, Exclusive); {
		case err == nil:
			return &Scratch{dir: dir, lock: lock}, nil
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrLocked):
			// Another process swept it away before it was locked.
		default:
			return nil, fmt.Errorf("make scratch folder: %w", errors.Join(err, os.RemoveAll(dir)))
		}
	}
}

// Dir is the folder.
func (s *Scratch) Dir() string { return s.dir }

// Path returns a path in the folder.
func (s *Scratch) Path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Remove removes the folder with all that is in it.
func (s *Scratch) Remove() error { return errors.Join(os.RemoveAll(s.dir), s.lock.Release()) }

// Sweep removes the folders in parent whose name begins with prefix and that nobody
// holds. One that is just being made is made again by who wanted it. It is no error if
// there is no such parent.
func Sweep(parent, prefix string) error {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep scratch folders: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), prefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		lock, err := TryLockExisting(dir, Exclusive)
		if err != nil {
			continue // its maker lives, or another removes it
		}
		errs = append(errs, os.RemoveAll(dir), lock.Release())
	}
	return errors.Join(errs...)
}
