package owner

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Inode is one of the store's file system. That it was born then tells it from a later
// one with its number.
type Inode struct {
	Number, Seconds uint64
	Nanoseconds     uint32
}

// InodeOf says which inode an object is: the one at path, which is not followed, in an
// open directory, or, if path is "", the open object itself.
func InodeOf(fd int, path string) (Inode, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	var st unix.Statx_t
	if err := unix.Statx(fd, path, flags, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return Inode{}, err
	}
	return Inode{Number: st.Ino, Seconds: uint64(st.Btime.Sec), Nanoseconds: st.Btime.Nsec}, nil
}

// sideFile is where the owners of symlinks and fifos of an upper directory are.
func sideFile(upper string) string { return filepath.Join(filepath.Dir(upper), "owners") }

// WriteSide writes down, beside an upper directory, who owns what in it cannot carry a
// record.
func WriteSide(upper string, owners map[Inode]Stat) error {
	if len(owners) == 0 {
		return nil
	}
	var b strings.Builder
	for i, s := range owners {
		fmt.Fprintf(&b, "%d %d %d %s\n", i.Number, i.Seconds, i.Nanoseconds, s)
	}
	return os.WriteFile(sideFile(upper), []byte(b.String()), 0o600)
}

// ReadSide reads what WriteSide wrote; nil if it wrote nothing.
func ReadSide(upper string) (map[Inode]Stat, error) {
	f, err := os.Open(sideFile(upper))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	owners := map[Inode]Stat{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var i Inode
		var text string
		if _, err := fmt.Sscan(lines.Text(), &i.Number, &i.Seconds, &i.Nanoseconds, &text); err != nil {
			return nil, fmt.Errorf("read recorded owners: %w", err)
		}
		if owners[i], err = Parse(text); err != nil {
			return nil, fmt.Errorf("read recorded owners: %w", err)
		}
	}
	return owners, lines.Err()
}
