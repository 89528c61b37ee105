package kernel

import (
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/view"
)

// place resolves the path in argument i, relative to the directory dirfd.
func (c *call) place(dirfd, i int, follow bool) (view.Place, error) {
	name, err := c.Path(i)
	if err != nil {
		return view.Place{}, err
	}
	return c.resolve(dirfd, name, follow)
}

func (c *call) resolve(dirfd int, name string, follow bool) (view.Place, error) {
	w, from := c.viewer(), ""
	if name == "" {
		return view.Place{}, unix.ENOENT
	}
	if name[0] != '/' {
		var err error
		if from, err = w.Directory(dirfd); err != nil {
			return view.Place{}, err
		}
	}
	return w.Resolve(from, name, follow)
}

// object is place that also takes descriptors (AT_EMPTY_PATH).
func (c *call) object(dirfd, i, flags int) (view.Place, error) {
	follow := flags&unix.AT_SYMLINK_NOFOLLOW == 0
	if flags&unix.AT_EMPTY_PATH == 0 {
		return c.place(dirfd, i, follow)
	}
	name := ""
	if c.Reg.Arg(i) != 0 {
		var err error
		if name, err = c.Path(i); err != nil {
			return view.Place{}, err
		}
	}
	if name != "" {
		return c.resolve(dirfd, name, follow)
	}
	return c.open(dirfd)
}

// open names an open file so that following the name leads to it.
func (c *call) open(fd int) (view.Place, error) {
	w := c.viewer()
	if fd == unix.AT_FDCWD {
		dir, err := w.Directory(fd)
		if err != nil {
			return view.Place{}, err
		}
		return w.View.At(dir), nil
	}
	p, err := w.Descriptor(fd)
	if err != nil {
		return view.Place{}, err
	}
	p.Host = descriptorPath(c.Task.PID, fd)
	return p, nil
}

func descriptorPath(pid, fd int) string { return "/proc/" + itoa(pid) + "/fd/" + itoa(fd) }

// viewer resolves paths for this thread.
func (c *call) viewer() *view.Viewer {
	return &view.Viewer{View: &c.kernel.view, PID: c.Task.PID, TID: c.Task.TID, Root: c.Task.Root, Known: c.Task.Tracer.Knows, Original: c.kernel.programs.Original}
}
