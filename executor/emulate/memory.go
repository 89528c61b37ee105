package emulate

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read fills buf from a process's memory and returns how much could be read.
func read(pid uint32, addr uint64, buf []byte) int {
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(len(buf))
	n, err := unix.ProcessVMReadv(int(pid), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err != nil {
		return 0
	}
	return n
}

// write copies into the memory of a process that waits for an answer.
func (s *supervisor) write(n *notification, addr uint64, data []byte) unix.Errno {
	if len(data) == 0 {
		return 0
	}
	if !s.valid(n) {
		return unix.ESRCH // and nobody will see it
	}
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	size, err := unix.ProcessVMWritev(int(n.pid), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(data)}}, 0)
	if err != nil || size != len(data) {
		return unix.EFAULT
	}
	return 0
}

func (s *supervisor) writeIDs(n *notification, addr uint64, ids ...uint32) unix.Errno {
	if len(ids) == 0 {
		return 0
	}
	return s.write(n, addr, idBytes(ids))
}

// readPath reads a path into s.path, with its zero byte, and returns its length
// without. It never reads over the end of a page that the string may end in.
func (s *supervisor) readPath(pid uint32, addr uint64) (int, unix.Errno) {
	const page = 4096
	have := 0
	for have < len(s.path) {
		from := addr + uint64(have)
		n := min(len(s.path)-have, page-int(from%page))
		if have == 0 {
			n = min(n, 256)
		}
		n = read(pid, from, s.path[have:have+n])
		if n == 0 {
			return 0, unix.EFAULT
		}
		if i := bytes.IndexByte(s.path[have:have+n], 0); i >= 0 {
			return have + i, 0
		}
		have += n
	}
	return 0, unix.ENAMETOOLONG
}

// bytesOf is the memory of a structure of the kernel's.
func bytesOf[T unix.Stat_t | unix.Statx_t | unix.Rlimit](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// idBytes is the memory of ids, of which there are some.
func idBytes(ids []uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&ids[0])), 4*len(ids))
}
