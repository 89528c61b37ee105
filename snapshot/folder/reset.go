package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/lease"
)

// ErrBusy says that other processes, or other requests of this one, use a store.
var ErrBusy = errors.New("store is in use")

// useFile is locked, shared, by all who have the store open, and exclusively by who removes
// all that is in it.
const useFile = "use.lock"

// Use claims root and says that it is in use, once nobody removes it.
func Use(root string) (*files.Lock, error) {
	for {
		if err := Claim(root); err != nil {
			return nil, err
		}
		lock, err := files.LockFile(context.Background(), filepath.Join(root, useFile), files.Shared)
		if errors.Is(err, fs.ErrNotExist) { // the folder was removed
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(filepath.Join(root, VersionFile)); err == nil {
			return lock, nil
		}
		lock.Release()
	}
}

// Reset removes all that is in a store, whatever version of the program made it, and the
// folder, where that may be. A folder that is no store is an error that matches ErrNotStore, one
// that is used ErrBusy; both stay as they are. What is left after another error is a store.
func Reset(root string) error {
	root, err := filepath.Abs(root)
	if err == nil {
		err = reset(root)
	}
	if err != nil {
		return fmt.Errorf("reset store: %w", err)
	}
	return nil
}

func reset(root string) error {
	if err := checkStore(root); err != nil {
		return err
	}
	lock, err := exclude(root)
	if err != nil {
		return err
	}
	defer lock.Release()
	// What has its final name is whole also if this is interrupted: first all is moved away,
	// names before what they name.
	if err := os.MkdirAll(filepath.Join(root, lease.TmpDir), 0o700); err != nil { // of a rest
		return err
	}
	gone, err := os.MkdirTemp(filepath.Join(root, lease.TmpDir), "reset-")
	if err != nil {
		return err
	}
	names, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, late := range []bool{false, true} {
		for _, n := range names {
			if isKept(n.Name()) || late != (n.Name() == Layers || n.Name() == "blobs") {
				continue
			}
			if err := os.Rename(filepath.Join(root, n.Name()), filepath.Join(gone, n.Name())); err != nil {
				return err
			}
		}
	}
	for _, n := range []string{lease.TmpDir, lease.LocksDir, OwnersFile, VersionFile} {
		if err := files.RemoveAll(filepath.Join(root, n)); err != nil {
			return err
		}
	}
	err = lock.Remove()
	_ = os.Remove(root) // it may be a mount
	return err
}

// isKept says what a store needs while all else is removed, and what is not its own.
func isKept(name string) bool {
	switch name {
	case lease.TmpDir, lease.LocksDir, OwnersFile, VersionFile, useFile, "lost+found":
		return true
	}
	return false
}

// checkStore refuses what is not the folder of a store: many folders have a file "version".
func checkStore(root string) error {
	b, err := os.ReadFile(filepath.Join(root, VersionFile))
	if errors.Is(err, fs.ErrNotExist) && isRest(root) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: %s has no mark of a store", ErrNotStore, root)
	}
	_, err = strconv.Atoi(strings.TrimSpace(string(b)))
	for _, d := range []string{Layers, lease.TmpDir, lease.LocksDir, Blobs} {
		fi, serr := os.Lstat(filepath.Join(root, d))
		if err == nil && (serr != nil || !fi.IsDir()) {
			err = fmt.Errorf("it has no folder %s", d)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrNotStore, root, err)
	}
	return nil
}

// isRest reports whether a folder is what rm -r leaves of a store for who may not remove all:
// nothing but layers, cache mounts and things in the making, by the names that they have.
func isRest(root string) bool {
	folders, err := os.ReadDir(root)
	if err != nil || len(folders) == 0 {
		return false
	}
	for _, f := range folders {
		names, err := os.ReadDir(filepath.Join(root, f.Name()))
		if err != nil || len(names) == 0 {
			return false
		}
		for _, n := range names {
			name, wanted := n.Name(), 0
			switch f.Name() {
			case Layers:
				wanted = 64
			case "mounts":
				name, _, _ = strings.Cut(name, ".")
				wanted = 32
			case Active, lease.TmpDir:
				name, _, _ = strings.Cut(strings.TrimPrefix(name, "p"), "-")
				wanted = 16
			}
			if len(name) != wanted || strings.Trim(name, "0123456789abcdef") != "" {
				return false
			}
		}
	}
	return true
}

// exclude locks a store that nobody uses. Earlier versions of the program do not lock
// useFile, but their leases.
func exclude(root string) (*files.Lock, error) {
	lock, err := files.TryLockFile(filepath.Join(root, useFile), files.Exclusive)
	if errors.Is(err, files.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrBusy, root)
	}
	if err != nil {
		return nil, err
	}
	names, err := os.ReadDir(filepath.Join(root, lease.LocksDir))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, n := range names {
		if err == nil && files.IsLocked(filepath.Join(root, lease.LocksDir, n.Name()), files.Exclusive) {
			err = fmt.Errorf("%w: %s", ErrBusy, root)
		}
	}
	if err != nil {
		return nil, errors.Join(err, lock.Release())
	}
	return lock, nil
}
