package view

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symlinks are followed, as in path_resolution(7).
const maxLinks = 40

// Viewer is the thread that a path is resolved for.
type Viewer struct {
	View *View
	// PID and TID are those of the process and the thread.
	PID, TID int
	// Root is what chroot(2) made the root.
	Root string
	// Lenient takes directories that do not exist for directories.
	Lenient bool
	// Known says which processes it may look at; nil is none.
	Known func(pid int) bool
	// Original returns what an executed file is a copy of; nil is itself.
	Original func(host string) string
}

// Resolve follows a path from a directory of the step. The last component is
// followed only if asked to; what does not exist yet is no error there.
func (w *Viewer) Resolve(from, name string, follow bool) (Place, error) {
	if name == "" {
		return Place{}, unix.ENOENT
	}
	done, left, links := from, name, 0
	if done == "" || name[0] == '/' {
		done = w.Root
	}
	for {
		var part string
		part, left = next(left)
		if part == "" {
			p := w.View.At(done)
			if strings.HasSuffix(name, "/") && p.Host != "/" {
				p.Host += "/" // it has to be a directory
			}
			return p, nil
		}
		if part == "." || part == ".." {
			if err := w.directory(done); err != nil {
				return Place{}, err
			}
			if part == ".." && done != w.Root {
				done = path.Dir(done)
			}
			continue
		}
		at := join(done, part)
		last := strings.Trim(left, "/") == ""
		if last && !follow && left == "" {
			return w.View.At(at), nil
		}
		target, magic, err := w.Link(at)
		switch {
		case err == unix.EINVAL: // no symlink
			done = at
			continue
		case err == unix.ENOENT && last:
			return w.View.At(at), nil
		case err == unix.ENOENT && w.Lenient:
			done = at
			continue
		case err != nil:
			return Place{}, err
		case magic != "" && last:
			p := w.View.At(at)
			if seen, ok := w.View.Named(target); ok {
				p = seen
			}
			p.Host = magic
			return p, nil
		case magic != "":
			seen, ok := w.View.Named(target)
			if !ok {
				return Place{}, unix.EACCES
			}
			done = seen.Guest
			continue
		}
		if links++; links > maxLinks {
			return Place{}, unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			done = w.Root
		}
		if last {
			follow = true // of what the link leads to, the rest counts
		}
		left = target + "/" + left
		if last && !strings.HasSuffix(name, "/") {
			left = strings.TrimSuffix(left, "/")
		}
	}
}

// directory refuses what "." and ".." cannot stand after.
func (w *Viewer) directory(guest string) error {
	var st unix.Stat_t
	err := unix.Lstat(w.View.At(guest).Host, &st)
	for err == unix.EINTR {
		err = unix.Lstat(w.View.At(guest).Host, &st)
	}
	switch {
	case err == unix.ENOENT && (w.Lenient || w.View.hasBelow(guest)):
		return nil
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return unix.ENOTDIR
	}
	return err
}

// next takes the first component off a path.
func next(p string) (part, left string) {
	p = strings.TrimLeft(p, "/")
	if i := strings.IndexByte(p, '/'); i >= 0 {
		return p[:i], p[i:]
	}
	return p, ""
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// Link reads the symlink at a place. The error is EINVAL if it is none. Where the
// kernel follows a link of /proc by itself, magic is the path that makes it do so,
// and target what this machine calls its end.
func (w *Viewer) Link(guest string) (target, magic string, err error) {
	p := w.View.At(guest)
	if strings.HasPrefix(p.Host, "/proc/") {
		if target, magic, err = w.procLink(p.Host); err != errNotSpecial {
			return target, magic, err
		}
	}
	target, err = Readlink(p.Host)
	if err == unix.ENOENT && w.View.hasBelow(guest) {
		return "", "", unix.EINVAL // a directory that only bindings need
	}
	return target, "", err
}

// Readlink reads the symlink at a path of this machine. The error is an Errno.
func Readlink(p string) (string, error) {
	var buf [512]byte
	n, err := unix.Readlink(p, buf[:])
	if err != nil {
		return "", err
	}
	if n < len(buf) {
		return string(buf[:n]), nil
	}
	big := make([]byte, unix.PathMax)
	if n, err = unix.Readlink(p, big); err != nil {
		return "", err
	}
	return string(big[:n]), nil
}

var errNotSpecial = errors.New("not special")

// procLink handles what lies in /proc: links to the process itself, links that lead
// out of the root, and processes that are none of the step's.
func (w *Viewer) procLink(host string) (target, magic string, err error) {
	f := strings.Split(host, "/")[2:]
	switch {
	case len(f) == 1 && f[0] == "self":
		return strconv.Itoa(w.PID), "", nil
	case len(f) == 1 && f[0] == "thread-self":
		return strconv.Itoa(w.PID) + "/task/" + strconv.Itoa(w.TID), "", nil
	}
	pid, nerr := strconv.Atoi(f[0])
	if nerr != nil {
		return "", "", errNotSpecial
	}
	if w.Known == nil || !w.Known(pid) {
		return "", "", unix.ENOENT
	}
	f = f[1:]
	if len(f) > 1 && f[0] == "task" {
		f = f[2:]
	}
	switch {
	case len(f) == 1 && f[0] == "root":
		return w.Root, "", nil
	case len(f) == 1 && (f[0] == "cwd" || f[0] == "exe"):
		t, err := Readlink(host)
		if err != nil {
			return "", "", err
		}
		if f[0] == "exe" && w.Original != nil {
			t = w.Original(t)
		}
		seen, ok := w.View.Named(t)
		if !ok {
			return t, host, nil
		}
		return seen.Guest, "", nil
	case len(f) == 2 && (f[0] == "fd" || f[0] == "map_files"):
		t, err := Readlink(host)
		return t, host, err
	}
	return "", "", errNotSpecial
}

// Descriptor names what a file descriptor of the process is open on.
func (w *Viewer) Descriptor(fd int) (Place, error) {
	magic := "/proc/" + strconv.Itoa(w.PID) + "/fd/" + strconv.Itoa(fd)
	host, err := Readlink(magic)
	if err == unix.ENOENT {
		return Place{}, unix.EBADF
	}
	if err != nil {
		return Place{}, err
	}
	if p, ok := w.View.Named(host); ok {
		return p, nil
	}
	return Place{Host: magic, Guest: host}, nil
}

// Directory is the step's name of what a relative path begins at.
func (w *Viewer) Directory(fd int) (string, error) {
	if fd == unix.AT_FDCWD {
		host, err := Readlink("/proc/" + strconv.Itoa(w.PID) + "/task/" + strconv.Itoa(w.TID) + "/cwd")
		if err != nil {
			return "", err
		}
		p, ok := w.View.Named(host)
		if !ok {
			return "", unix.ENOENT
		}
		return p.Guest, nil
	}
	p, err := w.Descriptor(fd)
	if err != nil {
		return "", err
	}
	if p.Guest == "" || p.Guest[0] != '/' {
		return "", unix.ENOTDIR
	}
	return p.Guest, nil
}
