package ptrace

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// PageSize is the least size of a page of memory.
const PageSize = 4096

// ReadMemory fills buf from a process's memory.
func ReadMemory(pid int, addr uint64, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	n, err := unix.ProcessVMReadv(pid,
		[]unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}},
		[]unix.RemoteIovec{{Base: uintptr(addr), Len: len(buf)}}, 0)
	if err == unix.EPERM || err == unix.ENOSYS { // some containers forbid it alone
		n, err = unix.PtracePeekData(pid, uintptr(addr), buf)
	}
	if err == nil && n != len(buf) {
		err = unix.EFAULT
	}
	return err
}

// WriteMemory writes to memory that the process itself can write to.
func WriteMemory(pid int, addr uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	n, err := unix.ProcessVMWritev(pid,
		[]unix.Iovec{{Base: &data[0], Len: uint64(len(data))}},
		[]unix.RemoteIovec{{Base: uintptr(addr), Len: len(data)}}, 0)
	if err == unix.EPERM || err == unix.ENOSYS {
		n, err = unix.PtracePokeData(pid, uintptr(addr), data)
	}
	if err == nil && n != len(data) {
		err = unix.EFAULT
	}
	return err
}

// ReadString reads a string that ends with a zero byte and has less than limit
// bytes.
func ReadString(pid int, addr uint64, limit int) (string, error) {
	var out []byte
	var chunk [512]byte
	for len(out) < limit {
		n := min(len(chunk), PageSize-int(addr%PageSize))
		if err := ReadMemory(pid, addr, chunk[:n]); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(chunk[:n], 0); i >= 0 {
			if len(out) == 0 {
				return string(chunk[:i]), nil
			}
			return string(append(out, chunk[:i]...)), nil
		}
		out = append(out, chunk[:n]...)
		addr += uint64(n)
	}
	return "", unix.ENAMETOOLONG
}

// ReadPath reads a path.
func ReadPath(pid int, addr uint64) (string, error) { return ReadString(pid, addr, unix.PathMax) }

// ReadPointers reads an array that ends with a null pointer.
func ReadPointers(pid int, addr uint64) ([]uint64, error) {
	var out []uint64
	if addr == 0 {
		return nil, nil
	}
	var chunk [512]byte
	for {
		n := min(len(chunk), PageSize-int(addr%PageSize))
		n -= n % 8
		if n == 0 { // an array that is not aligned
			n = 8
		}
		if err := ReadMemory(pid, addr, chunk[:n]); err != nil {
			return nil, err
		}
		for i := 0; i < n; i += 8 {
			p := binary.NativeEndian.Uint64(chunk[i:])
			if p == 0 {
				return out, nil
			}
			out = append(out, p)
		}
		if len(out) > 1<<20 {
			return nil, unix.E2BIG
		}
		addr += uint64(n)
	}
}
