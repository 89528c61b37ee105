package emulate

import (
	"bytes"
	"encoding/binary"
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

// write copies into a process's memory.
func write(pid uint32, addr uint64, data []byte) unix.Errno {
	if len(data) == 0 {
		return 0
	}
	local := []unix.Iovec{{Base: &data[0]}}
	local[0].SetLen(len(data))
	n, err := unix.ProcessVMWritev(int(pid), local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(data)}}, 0)
	if err != nil || n != len(data) {
		return unix.EFAULT
	}
	return 0
}

func writeValue[T any](pid uint32, addr uint64, v *T) unix.Errno {
	return write(pid, addr, unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)))
}

func writeIDs(pid uint32, addr uint64, ids ...uint32) unix.Errno {
	var b []byte
	for _, id := range ids {
		b = binary.NativeEndian.AppendUint32(b, id)
	}
	return write(pid, addr, b)
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

// bytesOf is the memory of ids.
func bytesOf(ids []uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&ids[0])), 4*len(ids))
}
