package kernel

import (
	"path"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/view"
)

func (c *call) doLink(fromDir, from, toDir, to, flags int) (int64, error) {
	var p view.Place
	var err error
	if flags&unix.AT_EMPTY_PATH != 0 {
		p, err = c.object(fromDir, from, flags)
	} else {
		p, err = c.place(fromDir, from, flags&unix.AT_SYMLINK_FOLLOW != 0)
	}
	if err != nil {
		return 0, err
	}
	q, err := c.changeable(toDir, to, false)
	if err != nil {
		return 0, err
	}
	if p.ReadOnly {
		return 0, unix.EXDEV
	}
	if err := c.permitEntry(q.Host, false); err != nil {
		return 0, err
	}
	return 0, unix.Linkat(unix.AT_FDCWD, p.Host, unix.AT_FDCWD, q.Host, unix.AT_SYMLINK_FOLLOW*follows(p.Host))
}

// follows is 1 for names that only lead to their object by being followed.
func follows(host string) int {
	if isDescriptor(host) {
		return 1
	}
	return 0
}

func isDescriptor(host string) bool {
	return len(host) > 6 && host[:6] == "/proc/" && path.Base(path.Dir(host)) == "fd"
}

func (c *call) doSymlink(target, toDir, to int) (int64, error) {
	text, err := c.Path(target)
	if err != nil {
		return 0, err
	}
	q, err := c.changeable(toDir, to, false)
	if err != nil {
		return 0, err
	}
	if c.kernel.view.IsPoint(q.Guest) {
		return 0, unix.EEXIST
	}
	if err := c.permitEntry(q.Host, false); err != nil {
		return 0, err
	}
	return 0, unix.Symlink(text, q.Host)
}

func (c *call) doReadlink(dirfd, at, buf, size int) (int64, error) {
	n := int(int32(c.Reg.Arg(size)))
	if n <= 0 {
		return 0, unix.EINVAL
	}
	name, err := c.Path(at)
	if err != nil {
		return 0, err
	}
	var text string
	if name == "" { // of a descriptor that O_PATH|O_NOFOLLOW opened
		p, err := c.viewer().Descriptor(dirfd)
		if err != nil {
			return 0, err
		}
		if text, err = view.Readlink(p.Host); err != nil {
			return 0, err
		}
	} else if text, err = c.linkText(dirfd, name); err != nil {
		return 0, err
	}
	text = text[:min(len(text), n)]
	return int64(len(text)), ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(buf), []byte(text))
}

func (c *call) linkText(dirfd int, name string) (string, error) {
	p, err := c.resolve(dirfd, name, false)
	if err != nil {
		return "", err
	}
	w := c.viewer()
	text, magic, err := w.Link(p.Guest)
	if err != nil {
		return "", err
	}
	if magic != "" {
		if seen, ok := w.View.Named(text); ok {
			text = seen.Guest
		}
	}
	return text, nil
}
