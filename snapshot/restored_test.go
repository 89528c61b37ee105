package snapshot_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/folder"
	"layered.build/builder/snapshot/layerdir"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/snapshottest"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// ifAllowed is must of what a user namespace may forbid: then what is made has less to lose.
func ifAllowed(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL) {
		must(t, err)
	}
}

// commitIn commits what fn does in a mount.
func commitIn(t *testing.T, s *snapshot.Store, parent snapshot.Stack, fn func(root string)) snapshot.Layer {
	t.Helper()
	a, err := s.Prepare(t.Context(), parent)
	must(t, err)
	snapshottest.InMount(t, a.Mount(), fn)
	l, err := a.Commit(t.Context(), snapshot.CommitOptions{})
	must(t, err)
	return l
}

// copyLossy copies a folder as an ordinary user's tar does: all belongs to the user, modes
// lose their upper bits and what the umask takes, and there are neither attributes nor
// devices. Files that are one stay one.
func copyLossy(t *testing.T, from, to string) {
	t.Helper()
	links := map[uint64]string{}
	var made []string
	times := map[string]time.Time{}
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		made, times[dst] = append(made, dst), time.Unix(st.Mtim.Unix())
		mode := os.FileMode(st.Mode & 0o777 &^ 0o022)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			return os.MkdirAll(dst, mode|0o700)
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			return errors.Join(err, os.Symlink(target, dst))
		case unix.S_IFREG:
			if first, ok := links[st.Ino]; ok {
				return os.Link(first, dst)
			}
			links[st.Ino] = dst
			data, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(dst, data, mode))
		}
		return nil
	})
	for _, p := range slices.Backward(made) {
		if terr := object.SetTime(p, times[p]); !errors.Is(terr, fs.ErrNotExist) {
			err = errors.Join(err, terr)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// In a store that was copied by who may not set owners, all is as it was before when it is
// used.
func TestCopiedStore(t *testing.T) {
	needRoot(t)
	first := t.TempDir()
	s := openStoreAt(t, first)
	base := commitIn(t, s, nil, func(root string) {
		must(t, os.WriteFile(filepath.Join(root, "gone"), nil, 0o644))
		must(t, os.Mkdir(filepath.Join(root, "d"), 0o755), os.WriteFile(filepath.Join(root, "d", "hidden"), nil, 0o644))
	})
	top := commitIn(t, s, snapshot.Stack{base}, func(root string) {
		must(t, os.WriteFile(filepath.Join(root, "a"), []byte("content"), 0o644))
		must(t, os.Link(filepath.Join(root, "a"), filepath.Join(root, "b")))
		ifAllowed(t, os.Lchown(filepath.Join(root, "a"), 5, 6))
		must(t, unix.Chmod(filepath.Join(root, "a"), 0o4777))
		must(t, unix.Setxattr(filepath.Join(root, "a"), "user.x", []byte("y"), 0))
		ifAllowed(t, unix.Mknod(filepath.Join(root, "dev"), unix.S_IFCHR|0o620, int(unix.Mkdev(1, 3))))
		must(t, os.Symlink("nowhere", filepath.Join(root, "l")))
		ifAllowed(t, os.Lchown(filepath.Join(root, "l"), 7, 8))
		must(t, os.Remove(filepath.Join(root, "gone")))
		must(t, os.RemoveAll(filepath.Join(root, "d")))
		must(t, os.Mkdir(filepath.Join(root, "d"), 0o2775))
		must(t, unix.Chmod(filepath.Join(root, "d"), 0o2775))
		ifAllowed(t, os.Lchown(filepath.Join(root, "d"), 0, 9))
	})
	stack := snapshot.Stack{base, top}
	snapshottest.Compare(t, s, stack)
	must(t, s.Close())
	if _, err := os.Stat(filepath.Join(first, "restored")); err == nil {
		t.Error("a store that was not copied has layers to look at")
	}

	second := filepath.Join(t.TempDir(), "store")
	copyLossy(t, first, second)
	s = openStoreAt(t, second)
	snapshottest.Compare(t, s, stack)
	must(t, s.Close())

	third := filepath.Join(t.TempDir(), "store")
	copyLossy(t, second, third)
	s = openStoreAt(t, third)
	must(t, s.Check(t.Context(), top.ID, false)) // which mends it too
	snapshottest.Compare(t, s, stack)
}

// What is changed in place is found by Check, and mended by Restore.
func TestChangedDirectory(t *testing.T) {
	needRoot(t)
	s := openStoreAt(t, t.TempDir())
	l := commitIn(t, s, nil, func(root string) {
		must(t, os.WriteFile(filepath.Join(root, "a"), []byte("content"), 0o644))
	})
	must(t, s.Check(t.Context(), l.ID, false))
	must(t, os.Chmod(filepath.Join(s.Root(), "layers", string(l.ID), "dir", "a"), 0o600))
	if err := s.Check(t.Context(), l.ID, false); !errors.Is(err, layerdir.ErrDirectory) || !strings.Contains(err.Error(), "/a is of mode 0600, not 0644") {
		t.Errorf("after chmod: %v", err)
	}
	must(t, s.Restore(t.Context(), l.ID))
	must(t, s.Check(t.Context(), l.ID, false))

	must(t, os.Remove(filepath.Join(s.Root(), "layers", string(l.ID), "dir", "a")))
	if err := s.Check(t.Context(), l.ID, false); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
}

// A store is removed when nobody uses it, and is a new one for who opens it then.
func TestReset(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	s := openStoreAt(t, root)
	if err := folder.Reset(root); !errors.Is(err, folder.ErrBusy) {
		t.Errorf("a store that is open: %v", err)
	}
	must(t, s.Close(), os.WriteFile(filepath.Join(root, "more"), nil, 0o600), folder.Reset(root))
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	must(t, openStoreAt(t, root).Close())

	other := t.TempDir()
	must(t, os.WriteFile(filepath.Join(other, "version"), []byte("1\n"), 0o600))
	if err := folder.Reset(other); !errors.Is(err, folder.ErrNotStore) {
		t.Errorf("a folder with a file called version: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(other, "version")); err != nil {
		t.Error(err)
	}
}

// What rm -r leaves of a store is removed too; what only looks like it is not.
func TestResetOfRest(t *testing.T) {
	id := strings.Repeat("0f", 32)
	for path, rest := range map[string]bool{
		"layers/" + id + "/dir/etc": true, "mounts/" + id[:32] + "/x": true, "mounts/" + id[:32] + ".1/x": true,
		"active/p" + id[:16] + "-1/upper": true, "tmp/p" + id[:16] + "-12/x": true,
		"layers/mine/x": false, "layers": false, "mine/x": false, "mounts/x/y": false, "tmp/x": false, "active/" + id + "/x": false,
	} {
		root := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(root, path), 0o755))
		err := folder.Reset(root)
		if _, gone := os.Lstat(filepath.Join(root, path)); (err == nil) != rest || (gone != nil) != rest {
			t.Errorf("%s: %v, %v", path, err, gone)
		}
	}
}
