// Package owner records the owner and the type that a file is meant to have where
// the process cannot give them to it: where its user namespace maps a single id, or
// where it lacks CAP_CHOWN.
//
// The record is an extended attribute of the file, in the format of
// containers/storage (package idtools) and fuse-overlayfs:
// "uid:gid:mode[:type]". The permission bits in it are those at the time of
// recording and for other programs' sake; here the file's own count, which chmod
// and writing go on to change. A device is an empty regular file whose record says
// so. Only directories and regular files can carry the attribute.
package owner

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Xattr is the attribute's name.
const Xattr = "user.containers.override_stat"

// Stat is what a record says.
type Stat struct {
	UID, GID uint32
	// Mode is the type (S_IFMT; 0 if the record says none) and the permission bits.
	Mode uint32
	// Dev is the number of a device, as unix.Mkdev makes it.
	Dev uint64
}

// Emulated reports whether this process has to record owners instead of setting
// them. The answer is found once.
func Emulated() bool { return emulated() }

var emulated = sync.OnceValue(func() bool {
	return !MayAll(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID) || singleID("/proc/self/uid_map") || singleID("/proc/self/gid_map")
})

// MayAll reports whether this process has capabilities, of those below 32, in its user
// namespace.
func MayAll(capabilities ...uint) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return os.Geteuid() == 0
	}
	for _, c := range capabilities {
		if data[0].Effective&(1<<c) == 0 {
			return false
		}
	}
	return true
}

// singleID reports whether a user namespace's map (user_namespaces(7)) has only one
// id.
func singleID(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	return mapSize(string(b)) == 1
}

func mapSize(text string) (n uint64) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 {
			count, _ := strconv.ParseUint(f[2], 10, 33)
			n += count
		}
	}
	return n
}

// String formats the record.
func (s Stat) String() string {
	text := fmt.Sprintf("%d:%d:%04o", s.UID, s.GID, s.Mode&0o7777)
	switch s.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		text += ":file"
	case unix.S_IFDIR:
		text += ":dir"
	case unix.S_IFLNK:
		text += ":symlink"
	case unix.S_IFIFO:
		text += ":pipe"
	case unix.S_IFSOCK:
		text += ":socket"
	case unix.S_IFBLK:
		text += fmt.Sprintf(":block-%d-%d", unix.Major(s.Dev), unix.Minor(s.Dev))
	case unix.S_IFCHR:
		text += fmt.Sprintf(":char-%d-%d", unix.Major(s.Dev), unix.Minor(s.Dev))
	}
	return text
}

// errFormat says that a record cannot be read.
var errFormat = errors.New("is no record of an owner")

// Parse reads a record.
func Parse(text string) (Stat, error) {
	f := strings.Split(text, ":")
	if len(f) != 3 && len(f) != 4 {
		return Stat{}, fmt.Errorf("%q %w", text, errFormat)
	}
	uid, err1 := strconv.ParseUint(f[0], 10, 32)
	gid, err2 := strconv.ParseUint(f[1], 10, 32)
	mode, err3 := strconv.ParseUint(f[2], 8, 32)
	if errors.Join(err1, err2, err3) != nil || uid == 1<<32-1 || gid == 1<<32-1 || mode > 0o7777 {
		return Stat{}, fmt.Errorf("%q %w", text, errFormat)
	}
	s := Stat{UID: uint32(uid), GID: uint32(gid), Mode: uint32(mode)}
	if len(f) == 3 {
		return s, nil
	}
	kind, err := s.parseType(f[3])
	if err != nil {
		return Stat{}, fmt.Errorf("%q %w", text, err)
	}
	s.Mode |= kind
	return s, nil
}

func (s *Stat) parseType(text string) (uint32, error) {
	switch text {
	case "file":
		return unix.S_IFREG, nil
	case "dir":
		return unix.S_IFDIR, nil
	case "symlink":
		return unix.S_IFLNK, nil
	case "pipe":
		return unix.S_IFIFO, nil
	case "socket":
		return unix.S_IFSOCK, nil
	}
	f := strings.Split(text, "-")
	if len(f) != 3 || f[0] != "block" && f[0] != "char" {
		return 0, errFormat
	}
	major, err1 := strconv.ParseUint(f[1], 10, 32)
	minor, err2 := strconv.ParseUint(f[2], 10, 32)
	if errors.Join(err1, err2) != nil || f[0] == "char" && major+minor == 0 {
		return 0, errFormat // 0:0 is overlay's whiteout
	}
	s.Dev = unix.Mkdev(uint32(major), uint32(minor))
	if f[0] == "block" {
		return unix.S_IFBLK, nil
	}
	return unix.S_IFCHR, nil
}
