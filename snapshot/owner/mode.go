package owner

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ModeXattr records the mode that an object is meant to have where the one on disk
// lets its owner in too: a process without CAP_DAC_OVERRIDE, which stands in for
// root, could not use it otherwise. The record, the mode in octal, counts as long as
// the mode on disk is what Widen makes of it.
const ModeXattr = "user.builder.mode"

// Confined reports whether this process needs modes to let it in, because it lacks
// CAP_DAC_OVERRIDE. The answer is found once.
func Confined() bool { return confined() }

var confined = sync.OnceValue(func() bool { return !MayAll(unix.CAP_DAC_OVERRIDE) })

// Widen adds what the owner of an object needs: to read and write, and to search
// directories. The type is in mode.
func Widen(mode uint32) uint32 {
	if mode&unix.S_IFMT == unix.S_IFDIR {
		return mode | 0o700
	}
	return mode | 0o600
}

// Chmod gives what following path leads to a mode, which has its type, so that its
// owner on disk can go on to use it.
func Chmod(path string, mode uint32) error {
	kind := mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return unix.Fchmodat(unix.AT_FDCWD, path, mode&0o7777, 0)
	}
	wide := Widen(mode)
	if err := unix.Fchmodat(unix.AT_FDCWD, path, wide&0o7777, 0); err != nil {
		return err
	}
	if wide == mode {
		_ = unix.Removexattr(path, ModeXattr) // one from before might seem to fit
		return nil
	}
	if err := unix.Setxattr(path, ModeXattr, []byte(strconv.FormatUint(uint64(mode&0o7777), 8)), 0); err != nil {
		return fmt.Errorf("record mode: %w", err)
	}
	return nil
}

// ApplyMode makes st, of the file or directory that following path leads to, say the
// mode that is recorded.
func ApplyMode(path string, st *unix.Stat_t) {
	var buf [8]byte
	n, err := unix.Getxattr(path, ModeXattr, buf[:])
	if err != nil {
		return
	}
	mode, err := strconv.ParseUint(string(buf[:n]), 8, 12)
	kind := st.Mode & unix.S_IFMT
	if err == nil && Widen(kind|uint32(mode)) == st.Mode {
		st.Mode = kind | uint32(mode)
	}
}

// ReadFollow is Read of what following path leads to.
func ReadFollow(path string) (Stat, bool, error) {
	var buf [96]byte
	n, err := unix.Getxattr(path, Xattr, buf[:])
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return Stat{}, false, nil // none of ours
	}
	return found(buf[:max(n, 0)], err)
}

// WriteFollow is Write to what following path leads to.
func WriteFollow(path string, s Stat) error {
	return written(unix.Setxattr(path, Xattr, []byte(s.String()), 0))
}

// RemoveFollow is Remove from what following path leads to.
func RemoveFollow(path string) error {
	err := unix.Removexattr(path, Xattr)
	if err == nil || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return fmt.Errorf("remove recorded owner: %w", err)
}

// HiddenPrefix begins the names of attributes that stand for others, and of records.
const HiddenPrefix = "user.builder."

// HiddenXattr returns the name under which an attribute is kept on disk: what needs
// privileges is kept as one of users.
func HiddenXattr(name string) string {
	if name == "security.capability" || strings.HasPrefix(name, "trusted.") {
		return HiddenPrefix + name
	}
	return name
}

// ShownXattr returns the name of the attribute that one on disk stands for; false if
// it is a record that nobody is to see.
func ShownXattr(name string) (string, bool) {
	if name == Xattr || name == ModeXattr {
		return "", false
	}
	if shown, ok := strings.CutPrefix(name, HiddenPrefix); ok {
		return shown, true
	}
	return name, true
}
