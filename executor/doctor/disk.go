package doctor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fsType is what is known of a type of file system.
type fsType struct {
	name     string
	upper    bool // can hold overlay's upper directories
	reflinks string
}

func fileSystem(path string) fsType {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fsType{name: err.Error()}
	}
	known := map[int64]fsType{
		unix.EXT4_SUPER_MAGIC:      {"ext4", true, "no"},
		unix.XFS_SUPER_MAGIC:       {"xfs", true, "if made with reflink=1"},
		unix.BTRFS_SUPER_MAGIC:     {"btrfs", true, "yes"},
		unix.TMPFS_MAGIC:           {"tmpfs", true, "no"},
		unix.F2FS_SUPER_MAGIC:      {"f2fs", true, "no"},
		0x2fc12fc1:                 {"zfs", true, "no"},
		unix.OVERLAYFS_SUPER_MAGIC: {"overlay", false, "no"},
		unix.NFS_SUPER_MAGIC:       {"nfs", false, "no"},
		unix.FUSE_SUPER_MAGIC:      {"fuse", false, "no"},
	}
	if t, ok := known[int64(st.Type)]; ok {
		return t
	}
	return fsType{fmt.Sprintf("type %#x", st.Type), true, "unknown"}
}

// idMapped says whether steps of root can have user namespaces of their own.
func idMapped(store string) Fact {
	const name = "id-mapped mounts"
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) == nil {
		fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	fs := fileSystem(existing(store))
	switch {
	case major < 5 || major == 5 && minor < 19:
		return Fact{name, Missing, "--userns=auto has no effect: overlay takes them from Linux 5.19 on", ""}
	case !fs.upper || fs.name == "zfs":
		return Fact{name, Missing, "--userns=auto has no effect: not on " + fs.name, "put the store on another disk with --root"}
	}
	return Fact{name, OK, "root's steps get user namespaces of their own with --userns=auto", ""}
}

func disk(store string) Fact {
	dir := existing(store)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Fact{"store", Missing, fmt.Sprintf("%s: %v", store, err), ""}
	}
	fs := fileSystem(dir)
	free := st.Bavail * uint64(st.Bsize)
	value := fmt.Sprintf("%s on %s, %.1f GB free, reflinks: %s", store, fs.name, float64(free)/1e9, fs.reflinks)
	if unix.Access(dir, unix.W_OK) != nil {
		return Fact{"store", Missing, value + "; not writable", "name another with --root"}
	}
	return has("store", free > 1<<30, value, "free some space, or name another store with --root")
}
