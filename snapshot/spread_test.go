package snapshot_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSpread checks the hint to ext4 that keeps the making of files fast after
// many were removed.
func TestSpread(t *testing.T) {
	s := openStore(t)
	var fs unix.Statfs_t
	if err := unix.Statfs(s.Root(), &fs); err != nil {
		t.Fatal(err)
	}
	if fs.Type != unix.EXT4_SUPER_MAGIC {
		t.Skip("the temporary directory is not on ext4")
	}
	for _, dir := range []string{"tmp", "active"} {
		f, err := os.Open(filepath.Join(s.Root(), dir))
		if err != nil {
			t.Fatal(err)
		}
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		f.Close()
		if err != nil || flags&0x20000 == 0 {
			t.Errorf("%s: flags %#x, %v", dir, flags, err)
		}
	}
}
