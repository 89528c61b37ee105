package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/owner"
)

// ErrNotStore says that a folder holds something else than a store.
var ErrNotStore = errors.New("folder is no store")

// Claim makes sure that root is the folder of a store: one that has the mark of one, or a
// new one, which gets it before anything else is made or removed in it. A folder that
// holds something else is refused and stays as it is.
func Claim(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	version := filepath.Join(root, VersionFile)
	if _, err := os.Lstat(version); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := checkUnused(root); err != nil {
		// Another process may have made the store meanwhile.
		if _, merr := os.Lstat(version); merr == nil {
			return nil
		}
		return err
	}
	if owner.Emulated() {
		if err := mark(root, OwnersFile, "recorded\n"); err != nil {
			return err
		}
	}
	return mark(root, VersionFile, Version+"\n")
}

// Find refuses a folder that is not that of a store with an error that matches ErrNotStore:
// for what is to be done with a store that is there, and would say of a new one, where a name
// was mistyped, that all is well. It makes nothing.
func Find(root string) error {
	_, err := os.Lstat(filepath.Join(root, VersionFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s does not exist", ErrNotStore, root)
	}
	return fmt.Errorf("%w: %s has no mark of a store", ErrNotStore, root)
}

// claiming is what the names of files end with that become marks.
const claiming = ".new-"

// checkUnused refuses a folder that holds anything but what a new file system has, and
// what a process that was killed while it made a store may have left.
func checkUnused(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), claiming)
		if name != "lost+found" && name != OwnersFile && name != VersionFile && name != useFile {
			return fmt.Errorf("%w: %s holds %s and no mark of a store; name a new or empty folder", ErrNotStore, root, e.Name())
		}
	}
	return nil
}

// mark puts a mark into a folder.
func mark(root, name, text string) error {
	return files.Replace(filepath.Join(root, name), []byte(text), files.Replacement{Prefix: name + claiming})
}
