package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/owner"
)

// unpacker extracts into a root that somebody else filled: every directory is
// reached through openat2(2) with RESOLVE_IN_ROOT, and only the last component of
// a name is used by itself.
type unpacker struct {
	opts Options
	root int // descriptors
	dest string
	dirs []dirTime // completed last
	// cur is the directory that was used last; archives keep neighbours together.
	cur     int
	curPath string
}

type dirTime struct {
	path string
	time time.Time
}

func newUnpacker(root, dest string, opts Options) (*unpacker, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", root, err)
	}
	u := &unpacker{opts: opts, root: fd, cur: -1, dest: path.Clean("/" + dest)}
	if _, err := u.dir(u.dest); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func (u *unpacker) close() {
	if u.cur >= 0 {
		unix.Close(u.cur)
	}
	unix.Close(u.root)
}

// open opens a path inside the root, following symlinks inside it.
func (u *unpacker) open(p string, flags uint64) (int, error) {
	for range 10 {
		fd, err := unix.Openat2(u.root, strings.TrimPrefix(p, "/"), &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

func (u *unpacker) openDir(p string) (int, error) {
	if p == "/" {
		p = "."
	}
	return u.open(p, unix.O_RDONLY|unix.O_DIRECTORY)
}

// dir returns a descriptor of a directory, which it makes if it is missing. The
// descriptor is valid until the next call.
func (u *unpacker) dir(p string) (int, error) {
	if u.cur >= 0 {
		if p == u.curPath {
			return u.cur, nil
		}
		unix.Close(u.cur)
		u.cur = -1
	}
	fd, err := u.openDir(p)
	if errors.Is(err, unix.ENOENT) && p != "/" {
		fd, err = u.makeDirs(p)
	}
	if err != nil {
		return -1, fmt.Errorf("open directory %s: %w", p, err)
	}
	u.cur, u.curPath = fd, p
	return fd, nil
}

func (u *unpacker) makeDirs(p string) (int, error) {
	parent, err := u.openDir(path.Dir(p))
	if errors.Is(err, unix.ENOENT) && p != "/" {
		parent, err = u.makeDirs(path.Dir(p))
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(parent)
	base := path.Base(p)
	if err := unix.Mkdirat(parent, base, 0o755); err != nil {
		return -1, err
	}
	if err := unix.Fchmodat(parent, base, 0o755, 0); err != nil {
		return -1, err
	}
	if u.opts.Owner != nil {
		if err := chown(parent, base, int(u.opts.Owner.UID), int(u.opts.Owner.GID)); err != nil {
			return -1, err
		}
	}
	if u.opts.Epoch != nil {
		u.dirs = append(u.dirs, dirTime{p, *u.opts.Epoch})
	}
	return u.openDir(p)
}

func (u *unpacker) run(ctx context.Context, r io.Reader) error {
	tr := tar.NewReader(r)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return err
		}
		if err := u.entry(h, tr); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return u.finish()
}

// finish sets the directories' times, which what was made in them changed.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		fd, err := u.openDir(u.dirs[i].path)
		if err != nil {
			continue // a later entry replaced it
		}
		err = setTime(fd, ".", u.dirs[i].time)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// place returns the directory and name that an entry's name means.
func (u *unpacker) place(name string) (fd int, base, full string, err error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return -1, "", "", errors.New("leads out of the destination")
	}
	full = path.Join(u.dest, p)
	if p == "." {
		fd, err = u.dir(full)
		return fd, ".", full, err
	}
	fd, err = u.dir(path.Dir(full))
	return fd, path.Base(full), full, err
}

func (u *unpacker) entry(h *tar.Header, tr io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	fd, base, full, err := u.place(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.directory(fd, base, full, h)
	}
	if base == "." {
		return errors.New("the root of the archive is no directory")
	}
	if h.Typeflag == tar.TypeLink {
		return u.link(full, h)
	}
	if err := replace(fd, base); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return u.file(fd, base, h, tr)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, fd, base)
	case tar.TypeFifo:
		err = unix.Mkfifoat(fd, base, 0o600)
	case tar.TypeChar, tar.TypeBlock:
		err = device(fd, base, h)
	default:
		return fmt.Errorf("unknown type %q in the tar", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return u.meta(fd, base, h)
}

func device(fd int, base string, h *tar.Header) error {
	kind := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		kind = unix.S_IFBLK
	}
	dev := unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	if !owner.Emulated() {
		return unix.Mknodat(fd, base, kind|0o600, int(dev))
	}
	if err := unix.Mknodat(fd, base, unix.S_IFREG|0o600, 0); err != nil {
		return err
	}
	return owner.Write(inDir(fd, base), owner.Stat{Mode: kind | 0o600, Dev: dev})
}

// directory makes a directory, or gives the one that is there other metadata. As
// with BuildKit, an entry for the destination itself changes nothing, and a
// symlink that is in the way is replaced, also one to a directory.
func (u *unpacker) directory(fd int, base, full string, h *tar.Header) error {
	if base == "." {
		return nil
	}
	err := unix.Mkdirat(fd, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if err = replace(fd, base); err == nil {
				err = unix.Mkdirat(fd, base, 0o700)
			}
		}
	}
	if err != nil {
		return err
	}
	u.dirs = append(u.dirs, dirTime{full, u.time(h)})
	return u.meta(fd, base, h)
}

// link makes a hard link to an entry of the archive.
func (u *unpacker) link(full string, h *tar.Header) error {
	target := path.Clean(strings.TrimLeft(h.Linkname, "/"))
	if target == ".." || target == "." || strings.HasPrefix(target, "../") {
		return fmt.Errorf("link to %q leads out of the destination", h.Linkname)
	}
	target = path.Join(u.dest, target)
	if target == full {
		return nil
	}
	from, err := u.openDir(path.Dir(target))
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	defer unix.Close(from)
	fd, err := u.dir(path.Dir(full))
	if err != nil {
		return err
	}
	if err := replace(fd, path.Base(full)); err != nil {
		return err
	}
	if err := unix.Linkat(from, path.Base(target), fd, path.Base(full), 0); err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	return nil
}

// replace removes what is at a name.
func replace(fd int, base string) error {
	err := unix.Unlinkat(fd, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	var st unix.Stat_t
	if serr := unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); serr != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(base)
}

func (u *unpacker) file(fd int, base string, h *tar.Header, tr io.Reader) (err error) {
	f, err := unix.Openat(fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(f), h.Name)
	n, err := io.Copy(out, tr)
	if err == nil && n != h.Size {
		err = io.ErrUnexpectedEOF
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return u.meta(fd, base, h)
}
