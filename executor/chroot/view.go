package chroot

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// binding shows a file or directory of this machine at a place in the root.
type binding struct {
	Guest, Host string
	ReadOnly    bool
}

// view is what the processes of a step see: a root directory and bindings.
type view struct {
	root     string
	readOnly bool
	bindings []binding // of several for one place the last one counts
}

// place is an object as the step names it and as this machine does.
type place struct {
	guest, host string
	readOnly    bool
}

// at returns the place with a name that has no symlinks. The topmost binding is the
// longest one.
func (v *view) at(guest string) place {
	best := -1
	for i := range v.bindings {
		b := v.bindings[i].Guest
		if (guest == b || under(guest, b)) && (best < 0 || len(b) >= len(v.bindings[best].Guest)) {
			best = i
		}
	}
	if best >= 0 {
		b := &v.bindings[best]
		return place{guest: guest, host: b.Host + guest[len(b.Guest):], readOnly: b.ReadOnly}
	}
	if guest == "/" {
		return place{guest: guest, host: v.root, readOnly: v.readOnly}
	}
	return place{guest: guest, host: v.root + guest, readOnly: v.readOnly}
}

// named returns the place that this machine calls host; false if the step cannot
// see it.
func (v *view) named(host string) (place, bool) {
	if !strings.HasPrefix(host, "/") {
		return place{}, false
	}
	best, length := place{}, -1
	for _, b := range v.bindings {
		if (host == b.Host || under(host, b.Host)) && len(b.Host) > length {
			best, length = place{guest: b.Guest + host[len(b.Host):], host: host, readOnly: b.ReadOnly}, len(b.Host)
		}
	}
	if (host == v.root || under(host, v.root)) && len(v.root) > length {
		best, length = place{guest: host[len(v.root):], host: host, readOnly: v.readOnly}, len(v.root)
	}
	if best.guest == "" {
		best.guest = "/"
	}
	return best, length >= 0
}

// hasBelow reports whether a binding lies below a place, so that the place is there
// even if the root has nothing.
func (v *view) hasBelow(guest string) bool {
	for _, b := range v.bindings {
		if under(b.Guest, guest) {
			return true
		}
	}
	return false
}

// isPoint reports whether something is mounted exactly there.
func (v *view) isPoint(guest string) bool {
	for _, b := range v.bindings {
		if b.Guest == guest {
			return true
		}
	}
	return guest == "/"
}

func under(p, dir string) bool {
	return len(p) > len(dir) && strings.HasPrefix(p, dir) && (p[len(dir)] == '/' || dir == "/")
}

// maxLinks is how many symlinks are followed, as in path_resolution(7).
const maxLinks = 40

// viewer is the process that a path is resolved for.
type viewer struct {
	v *view
	// pid and tid are those of the process and the thread.
	pid, tid int
	// root is what chroot(2) made the root.
	root string
	// lenient takes directories that do not exist for directories.
	lenient bool
	// known says which processes it may look at; nil is none.
	known func(pid int) bool
	// original returns what an executed file is a copy of; nil is itself.
	original func(host string) string
}

// resolve follows a path from a directory of the step. The last component is
// followed only if asked to; what does not exist yet is no error there.
func (w *viewer) resolve(from, name string, follow bool) (place, error) {
	if name == "" {
		return place{}, unix.ENOENT
	}
	done, left, links := from, name, 0
	if done == "" || name[0] == '/' {
		done = w.root
	}
	for {
		var part string
		part, left = next(left)
		if part == "" {
			p := w.v.at(done)
			if (strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.")) && p.host != "/" {
				p.host += "/" // it has to be a directory
			}
			return p, nil
		}
		if part == ".." {
			if done != w.root {
				done = path.Dir(done)
			}
			continue
		}
		at := join(done, part)
		last := strings.Trim(left, "/") == ""
		if last && !follow && left == "" {
			return w.v.at(at), nil
		}
		target, magic, err := w.link(at)
		switch {
		case err == unix.EINVAL: // no symlink
			done = at
			continue
		case err == unix.ENOENT && last:
			return w.v.at(at), nil
		case err == unix.ENOENT && w.lenient:
			done = at
			continue
		case err != nil:
			return place{}, err
		case magic != "" && last:
			p := w.v.at(at)
			if seen, ok := w.v.named(target); ok {
				p = seen
			}
			p.host = magic
			return p, nil
		case magic != "":
			seen, ok := w.v.named(target)
			if !ok {
				return place{}, unix.EACCES
			}
			done = seen.guest
			continue
		}
		if links++; links > maxLinks {
			return place{}, unix.ELOOP
		}
		if strings.HasPrefix(target, "/") {
			done = w.root
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

func next(p string) (part, left string) {
	for {
		p = strings.TrimLeft(p, "/")
		i := strings.IndexByte(p, '/')
		if i < 0 {
			part, p = p, ""
		} else {
			part, p = p[:i], p[i:]
		}
		if part != "." {
			return part, p
		}
	}
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

// link reads the symlink at a place. The error is EINVAL if it is none. Where the
// kernel follows a link of /proc by itself, magic is the path that makes it do so,
// and target what this machine calls its end.
func (w *viewer) link(guest string) (target, magic string, err error) {
	p := w.v.at(guest)
	if strings.HasPrefix(p.host, "/proc/") {
		if target, magic, err = w.procLink(p.host); err != errNotSpecial {
			return target, magic, err
		}
	}
	target, err = readlink(p.host)
	if err == unix.ENOENT && w.v.hasBelow(guest) {
		return "", "", unix.EINVAL // a directory that only bindings need
	}
	return target, "", err
}

func readlink(p string) (string, error) {
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
func (w *viewer) procLink(host string) (target, magic string, err error) {
	f := strings.Split(host, "/")[2:]
	switch {
	case len(f) == 1 && f[0] == "self":
		return strconv.Itoa(w.pid), "", nil
	case len(f) == 1 && f[0] == "thread-self":
		return strconv.Itoa(w.pid) + "/task/" + strconv.Itoa(w.tid), "", nil
	}
	pid, nerr := strconv.Atoi(f[0])
	if nerr != nil {
		return "", "", errNotSpecial
	}
	if w.known == nil || !w.known(pid) {
		return "", "", unix.ENOENT
	}
	f = f[1:]
	if len(f) > 1 && f[0] == "task" {
		f = f[2:]
	}
	switch {
	case len(f) == 1 && f[0] == "root":
		return w.root, "", nil
	case len(f) == 1 && (f[0] == "cwd" || f[0] == "exe"):
		t, err := readlink(host)
		if err != nil {
			return "", "", err
		}
		if f[0] == "exe" && w.original != nil {
			t = w.original(t)
		}
		seen, ok := w.v.named(t)
		if !ok {
			return t, host, nil
		}
		return seen.guest, "", nil
	case len(f) == 2 && (f[0] == "fd" || f[0] == "map_files"):
		t, err := readlink(host)
		return t, host, err
	}
	return "", "", errNotSpecial
}

// descriptor names what a file descriptor of the process is open on.
func (w *viewer) descriptor(fd int) (place, error) {
	magic := "/proc/" + strconv.Itoa(w.pid) + "/fd/" + strconv.Itoa(fd)
	host, err := readlink(magic)
	if err == unix.ENOENT {
		return place{}, unix.EBADF
	}
	if err != nil {
		return place{}, err
	}
	if p, ok := w.v.named(host); ok {
		return p, nil
	}
	return place{host: magic, guest: host}, nil
}

// directory is the step's name of what a relative path begins at.
func (w *viewer) directory(fd int) (string, error) {
	if fd == unix.AT_FDCWD {
		host, err := readlink("/proc/" + strconv.Itoa(w.pid) + "/task/" + strconv.Itoa(w.tid) + "/cwd")
		if err != nil {
			return "", err
		}
		p, ok := w.v.named(host)
		if !ok {
			return "", unix.ENOENT
		}
		return p.guest, nil
	}
	p, err := w.descriptor(fd)
	if err != nil {
		return "", err
	}
	if p.guest == "" || p.guest[0] != '/' {
		return "", unix.ENOTDIR
	}
	return p.guest, nil
}
