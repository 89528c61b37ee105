package layout

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/snapshot/owner"
)

// mount makes a mount of the Spec.
func (l *Layout) mount(m sandbox.Mount) error {
	dest := path.Clean(m.Dest)
	if dest == "/proc" || strings.HasPrefix(dest, "/proc/") {
		return errors.New("nothing can be mounted in /proc")
	}
	switch {
	case m.Tmpfs != nil:
		dir, err := l.memory()
		if err != nil {
			return err
		}
		mode := m.Tmpfs.Mode
		if mode == 0 {
			mode = 0o1777
		}
		return errors.Join(owner.Chmod(dir, unix.S_IFDIR|mode), l.bind(dest, dir, m.ReadOnly))
	case m.HostPath != "":
		host, err := filepath.EvalSymlinks(m.HostPath)
		if err == nil && m.Selector != "" {
			host, err = beneath(host, m.Selector)
		}
		if err != nil {
			return err
		}
		return l.bind(dest, host, m.ReadOnly)
	}
	dir, ok := m.Snapshot.Dir()
	if !ok {
		return errors.New("it would have to be mounted, which is not possible without privileges")
	}
	src, err := securejoin.SecureJoin(dir, m.Selector)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(src); err != nil {
		return &os.PathError{Op: "find", Path: "/" + strings.TrimPrefix(m.Selector, "/"), Err: unix.ENOENT}
	}
	return l.bind(dest, src, m.ReadOnly || m.Snapshot.Upper == "")
}

// beneath is a path below a directory that leads through no symlink. A process that
// puts one there later is not kept from it, as no process is on this rung.
func beneath(dir, path string) (string, error) {
	root, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := sandbox.Beneath(int(root.Fd()), path)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, path), f.Close()
}

// makeCwd makes the working directory if it is missing, owned by the user that the
// process runs as. It is a change that stays.
func (l *Layout) makeCwd(cwd string) error {
	real, err := l.resolve(cwd)
	if err != nil {
		return fmt.Errorf("resolve working directory: %w", err)
	}
	v := view.View{Root: l.root, Bindings: l.view}
	p := v.At(real)
	if _, err := os.Stat(p.Host); err == nil || p.ReadOnly || l.spec.ReadOnlyRoot {
		return nil // or the step's process finds out
	}
	if err := l.makeCwd(path.Dir(real)); err != nil {
		return err
	}
	if err := os.Mkdir(p.Host, 0o755); err != nil {
		return fmt.Errorf("make working directory %s: %w", cwd, err)
	}
	return owner.Record(p.Host, l.spec.User.UID, l.spec.User.GID)
}
