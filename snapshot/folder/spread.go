package folder

import (
	"os"

	"golang.org/x/sys/unix"
)

// topDirFlag is FS_TOPDIR_FL of linux/fs.h (chattr +T).
const topDirFlag = 0x20000

// spread tells ext4 that the directories in dir have nothing to do with each other,
// so that it puts each into another group of blocks. Otherwise all layers share the
// few groups near the store's folder, and without a journal ext4 passes over every
// inode that was freed there in the last minutes whenever it makes a file: after
// the removal of one layer, unpacking another one took ten times as long. Other
// file systems know no such flag.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	fd := int(f.Fd())
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&topDirFlag != 0 {
		return
	}
	// It is only a hint: nothing depends on its success.
	_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|topDirFlag))
}
