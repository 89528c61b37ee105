package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/snapshot/owner"
)

// MakeCwd makes the working directory if it is missing, owned by the user that
// the process runs as. It is a change that stays.
func (r *Root) MakeCwd(cwd string, u sandbox.User) error {
	path, err := securejoin.SecureJoin(r.dir, cwd)
	if err != nil {
		return fmt.Errorf("resolve working directory: %w", err)
	}
	if r.covered(path) {
		f, err := r.makeShared(path, true, r.giveTo(u))
		if err != nil {
			return fmt.Errorf("make working directory %s: %w", cwd, err)
		}
		return f.Close()
	}
	if r.opts.SingleID {
		return mkdirAllRecorded(path, u)
	}
	if err := user.MkdirAllAndChown(path, 0o755, r.opts.Users.Outer(u.UID), r.opts.Users.Outer(u.GID), user.WithOnlyNew); err != nil {
		return fmt.Errorf("make working directory %s: %w", cwd, err)
	}
	return nil
}

// giveTo returns what gives a new directory to a user.
func (r *Root) giveTo(u sandbox.User) func(parent int, name string) error {
	return func(parent int, name string) error {
		if r.opts.SingleID {
			return owner.Lchown(fmt.Sprintf("/proc/thread-self/fd/%d/%s", parent, name), u.UID, u.GID)
		}
		return unix.Fchownat(parent, name, r.opts.Users.Outer(u.UID), r.opts.Users.Outer(u.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
}

// mkdirAllRecorded makes a directory and its missing parents for a user whose id
// cannot be given to files.
func mkdirAllRecorded(path string, u sandbox.User) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := mkdirAllRecorded(filepath.Dir(path), u); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	return owner.Lchown(path, u.UID, u.GID)
}
