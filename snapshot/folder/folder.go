package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"layered.build/builder/snapshot/lease"
)

// Version is the version of the layout on disk (docs/FORMAT.md, "Store").
const Version = "1"

// The files that mark a folder as a store, and say how it keeps owners.
const (
	VersionFile = "version"
	OwnersFile  = "owners" // there in a store whose directories record owners
)

// The folders of a store that others than leases own.
const (
	Layers = "layers"
	Blobs  = "blobs/sha256"
	Active = "active"
	Empty  = "empty" // an empty directory
)

// ErrVersion says that a store's folder was made by a version of the program that
// lays it out differently.
var ErrVersion = errors.New("store has another format version")

// ErrOwners says that a store's directories keep owners in another way than this
// process can.
var ErrOwners = errors.New("store keeps the owners of files in another way")

// Prepare makes what every store has, and reports whether it is a new one.
func Prepare(root string) (isNew bool, err error) {
	_, err = os.Lstat(filepath.Join(root, Layers))
	isNew = errors.Is(err, fs.ErrNotExist)
	for _, d := range []string{Layers, Active, lease.TmpDir, lease.LocksDir, Empty, Blobs} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o700); err != nil {
			return isNew, err
		}
	}
	spread(filepath.Join(root, lease.TmpDir))
	spread(filepath.Join(root, Active))
	// Overlay shows this directory's mode as a root's where it is the only one.
	return isNew, os.Chmod(filepath.Join(root, Empty), 0o755)
}

// Check refuses a store of another version, and one that a process of another kind made,
// which would show wrong owners. Records says whether this one records owners.
func Check(root string, records bool) error {
	b, err := os.ReadFile(filepath.Join(root, VersionFile))
	if err != nil {
		return err
	}
	v := strings.TrimSpace(string(b))
	if v == Version {
		return checkOwners(root, records)
	}
	what := "was made by something else"
	if n, err := strconv.Atoi(v); err == nil {
		what = "is older, and cannot be read any more"
		if own, _ := strconv.Atoi(Version); n > own {
			what = "was made by a newer version of this program"
		}
	}
	return fmt.Errorf("%w: %s has version %q, which %s (this one reads and writes version %s); name another folder with --root, or move this one away", ErrVersion, root, v, what, Version)
}

func checkOwners(root string, records bool) error {
	_, err := os.Lstat(filepath.Join(root, OwnersFile))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err == nil && !records:
		return fmt.Errorf("%w: %s records them, since it was made with a single id or without the right to set them; name another folder with --root, use --isolation=single, or remove this one (builder store reset)", ErrOwners, root)
	case err != nil && records:
		return fmt.Errorf("%w: %s really has them, and this user has a single id or no right to set them; name another folder with --root, or remove this one (builder store reset)", ErrOwners, root)
	}
	return nil
}
