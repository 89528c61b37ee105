package cachemount

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
)

const (
	// Folder is the folder of a store's cache mounts, each with a lock beside it.
	Folder = "mounts"
	// Making begins the name of a cache mount in the making.
	Making = "new-"

	lockEnd = ".lock"
)

// Mount is a cache mount of a store.
type Mount struct {
	// ID is that of the Dockerfile, "" if it is not known.
	ID string
	// Variant is set where more than the id tells mounts apart: what they begin with, or
	// their owner. Mounts of two machines are the same if both are.
	Variant string
	// Platform is that of the step that uses it.
	Platform string
	// Dir is where it is in the store.
	Dir string
	// LastUsed is when, and InUse whether somebody works with it.
	LastUsed time.Time
	InUse    bool
}

// Named is the mount of a store with an id; full is the id and behind it all else that tells
// it from others.
func Named(root, id, full string) Mount {
	sum := sha256.Sum256([]byte(full))
	folder := hex.EncodeToString(sum[:16])
	m := Mount{ID: id, Dir: filepath.Join(root, Folder, folder)}
	if full != id {
		m.Variant = folder
	}
	return m
}

// Lock is the path of the mount's lock: it is held exclusively by who wants it alone, makes or
// removes it, and shared by others who use it. Its time is that of the last use.
func (m Mount) Lock() string { return m.Dir + lockEnd }

// label is what a lock says of its mount.
type label struct {
	ID      string
	Variant string `json:",omitempty"`
}

// Label says in its lock, which is held, which mount it is: all holders say the same.
func (m Mount) Label(lock *files.Lock) error {
	if fi, err := lock.File().Stat(); err != nil || fi.Size() > 0 {
		return err
	}
	b, err := json.Marshal(label{m.ID, m.Variant})
	if err == nil {
		_, err = lock.File().WriteAt(b, 0)
	}
	if err != nil {
		return fmt.Errorf("label cache mount: %w", err)
	}
	return nil
}

// readLabel reads what the lock of a mount says; that of an earlier version says nothing.
func readLabel(lock string) (l label) {
	f, err := os.Open(lock)
	if err != nil {
		return l
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil || json.Unmarshal(b, &l) != nil {
		return label{}
	}
	return l
}

// List lists the cache mounts of a store, with the copies of private ones.
func List(root string) ([]Mount, error) {
	folder := filepath.Join(root, Folder)
	all, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // it is made when it is needed first
		return nil, fmt.Errorf("list cache mounts: %w", err)
	}
	var out []Mount
	for _, e := range all {
		if strings.HasSuffix(e.Name(), lockEnd) || strings.HasPrefix(e.Name(), Making) {
			continue
		}
		m := Mount{Dir: filepath.Join(folder, e.Name())}
		if fi, err := os.Stat(m.Lock()); err == nil {
			m.LastUsed = fi.ModTime()
		}
		l := readLabel(m.Lock())
		m.ID, m.Variant = l.ID, l.Variant
		m.InUse = files.IsLocked(m.Lock(), files.Exclusive)
		out = append(out, m)
	}
	return out, nil
}

// Folder is the name of its folder, which tells it from all others of the store.
func (m Mount) Folder() string { return filepath.Base(m.Dir) }

// Usage counts its files and their bytes on disk.
func (m Mount) Usage() (n, bytes int64, err error) {
	seen := map[uint64]bool{} // files with several names
	err = filepath.WalkDir(m.Dir, func(_ string, d fs.DirEntry, err error) error {
		var fi fs.FileInfo
		if err == nil {
			fi, err = d.Info()
		}
		if errors.Is(err, fs.ErrNotExist) { // somebody works there
			return nil
		}
		if err != nil {
			return err
		}
		n++
		if st := fi.Sys().(*syscall.Stat_t); !seen[st.Ino] {
			seen[st.Ino] = st.Nlink > 1 && !d.IsDir()
			bytes += st.Blocks * 512
		}
		return nil
	})
	return n, bytes, err
}

// IsCopy reports whether a mount is a copy that was made while another step had the first for
// itself.
func (m Mount) IsCopy() bool { return strings.Contains(filepath.Base(m.Dir), ".") }

// Hold keeps others from removing or replacing the mount, and from using it alone, until the
// lock is released. The error matches files.ErrLocked if somebody does.
func (m Mount) Hold() (*files.Lock, error) { return files.TryLockExisting(m.Lock(), files.Shared) }

// IsEmpty reports whether the mount has no files, or is not there.
func (m Mount) IsEmpty() bool {
	f, err := os.Open(m.Dir)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// Replace puts a folder that fill makes in the place of a mount that is empty or not there.
// The lock is held exclusively. Fill makes nothing if it returns false.
func (m Mount) Replace(fill func(dir string) (bool, error)) error {
	tmp, err := files.NewScratch(filepath.Dir(m.Dir), Making)
	if err != nil {
		return err
	}
	defer tmp.Remove()
	ok, err := fill(tmp.Path("files"))
	if err != nil || !ok {
		return err
	}
	// os.Rename refuses empty folders too.
	if err := unix.Rename(tmp.Path("files"), m.Dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("place cache mount %s: %w", m.Dir, err)
	}
	return nil
}

// isVariant reports whether a variant, which somebody else may have written, is the name of a
// folder, and leads nowhere else.
func isVariant(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }

// Import makes a mount that the store lacks, or has empty: fill makes its folder. It is false
// if fill is, or the mount has files already or is used: then it stays as it is.
func Import(root, id, variant string, fill func(dir string) (bool, error)) (ok bool, err error) {
	m := Named(root, id, id)
	if variant != "" {
		if !isVariant(variant) {
			return false, fmt.Errorf("cache mount %q: variant %q: %w", id, variant, fs.ErrInvalid)
		}
		m.Variant, m.Dir = variant, filepath.Join(root, Folder, variant)
	}
	if err := os.MkdirAll(filepath.Dir(m.Dir), 0o711); err != nil {
		return false, err
	}
	lock, err := files.TryLockFile(m.Lock(), files.Exclusive)
	if errors.Is(err, files.ErrLocked) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := m.Label(lock); err != nil || !m.IsEmpty() {
		return false, err
	}
	err = m.Replace(func(fresh string) (bool, error) {
		ok, err = fill(fresh)
		return ok, err
	})
	return ok && err == nil, err
}

// Remove removes a mount. It is false if somebody uses it: then it stays.
func (m Mount) Remove() (ok bool, err error) {
	lock, err := files.TryLockExisting(m.Lock(), files.Exclusive)
	if errors.Is(err, files.ErrLocked) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	tmp, err := files.NewScratch(filepath.Dir(m.Dir), Making)
	if err != nil {
		return false, err
	}
	err = os.Rename(m.Dir, tmp.Path("files"))
	return err == nil, errors.Join(err, tmp.Remove())
}
