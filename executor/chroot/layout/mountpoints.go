package layout

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/view"
)

// bind shows something at a place, whose symlinks are resolved in the root.
func (l *Layout) bind(guest, host string, readOnly bool) error {
	real, err := l.resolve(guest)
	if err != nil {
		return err
	}
	fi, err := os.Stat(host)
	if err != nil {
		return err
	}
	if err := l.stub(real, fi.IsDir()); err != nil {
		return err
	}
	l.view = append(l.view, view.Binding{Guest: real, Host: host, ReadOnly: readOnly})
	return nil
}

// resolve follows the symlinks on the way to a place, also through what is bound
// already.
func (l *Layout) resolve(guest string) (string, error) {
	w := &view.Viewer{
		View: &view.View{Root: l.root, Bindings: l.view}, Root: "/", PID: os.Getpid(), TID: os.Getpid(), Lenient: true,
	}
	p, err := w.Resolve("/", path.Clean("/"+guest), true)
	return p.Guest, err
}

// stub makes a mountpoint that is missing, so that listings show it. What lies in
// another mount is only made if its host side can be written to.
func (l *Layout) stub(guest string, dir bool) error {
	v := view.View{Root: l.root, Bindings: l.view}
	p := v.At(guest)
	if _, err := os.Lstat(p.Host); err == nil || p.ReadOnly {
		return nil
	}
	inRoot := strings.HasPrefix(p.Host, l.root+"/")
	if inRoot && l.spec.Root.Upper == "" {
		return nil // the step finds it all the same
	}
	if parent := path.Dir(guest); parent != "/" {
		if err := l.stub(parent, true); err != nil {
			return err
		}
	}
	return l.keepTime(path.Dir(p.Host), func() error {
		var err error
		if dir {
			err = os.Mkdir(p.Host, 0o755)
		} else {
			var f *os.File
			if f, err = os.OpenFile(p.Host, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err == nil {
				err = f.Close()
			}
		}
		if err == nil && inRoot {
			l.made = append(l.made, strings.TrimPrefix(p.Host, l.root+"/"))
		}
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return err
	})
}

// keepTime runs f and sets a directory's times back.
func (l *Layout) keepTime(dir string, f func() error) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// removeStubs takes away the mountpoints that are still empty. The step may have put
// symlinks in the place of their parents.
func (l *Layout) removeStubs() error {
	root, err := os.OpenRoot(l.root)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, rel := range slices.Backward(l.made) {
		fi, err := root.Lstat(rel)
		if err != nil || !fi.IsDir() && (!fi.Mode().IsRegular() || fi.Size() > 0) {
			continue
		}
		dir, err := root.Stat(path.Dir(rel))
		if err != nil || root.Remove(rel) != nil {
			continue // a directory that is not empty stays
		}
		_ = root.Chtimes(path.Dir(rel), dir.ModTime(), dir.ModTime())
	}
	return nil
}
