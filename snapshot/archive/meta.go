package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/owner"
)

// meta sets owner, mode, attributes and time, in the order in which none undoes
// another.
func (u *unpacker) meta(fd int, base string, h *tar.Header) error {
	uid, gid := h.Uid, h.Gid
	if u.opts.Owner != nil {
		uid, gid = int(u.opts.Owner.UID), int(u.opts.Owner.GID)
	}
	if err := chown(fd, base, uid, gid); err != nil {
		return fmt.Errorf("chown to %d:%d: %w", uid, gid, err)
	}
	if h.Typeflag != tar.TypeSymlink {
		mode := uint32(h.Mode) & 0o7777
		if u.opts.Mode != nil {
			mode = *u.opts.Mode & 0o7777
		}
		if err := unix.Fchmodat(fd, base, mode, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	if err := setXattrs(fd, base, h.PAXRecords); err != nil {
		return err
	}
	return setTime(fd, base, u.time(h))
}

// inDir is a path of what is called base in an open directory. It is no symlink that
// a system call which does not follow the last component follows.
func inDir(fd int, base string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", fd, base) }

// chown gives an object its owner, or records it.
func chown(fd int, base string, uid, gid int) error {
	if owner.Emulated() {
		return owner.Record(inDir(fd, base), uint32(uid), uint32(gid))
	}
	return unix.Fchownat(fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func (u *unpacker) time(h *tar.Header) time.Time {
	if u.opts.Epoch != nil && h.ModTime.After(*u.opts.Epoch) {
		return *u.opts.Epoch
	}
	return h.ModTime
}

func setXattrs(fd int, base string, pax map[string]string) error {
	for k, v := range pax {
		name, ok := strings.CutPrefix(k, xattrPrefix)
		if !ok || !isOwnXattr(name) {
			continue
		}
		err := unix.Lsetxattr(inDir(fd, base), name, []byte(v), 0)
		if errors.Is(err, unix.ENOTSUP) || (errors.Is(err, unix.EPERM) && name != "security.capability") {
			continue
		}
		if err != nil {
			return fmt.Errorf("set xattr %s: %w", name, err)
		}
	}
	return nil
}

// isOwnXattr leaves out what belongs to this machine: labels of security modules,
// ACLs, overlay's own state, with which an archive could forge whiteouts, and recorded
// owners.
func isOwnXattr(name string) bool {
	switch name {
	case "security.capability":
		return true
	case owner.Xattr:
		return false
	}
	for _, p := range []string{"security.", "system.", "trusted.overlay.", "user.overlay."} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	return true
}

func setTime(fd int, base string, t time.Time) error {
	ts, err := unix.TimeToTimespec(t)
	if err != nil {
		ts = unix.Timespec{}
	}
	err = unix.UtimesNanoAt(fd, base, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}
