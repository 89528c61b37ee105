package binfmt

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// runs32 reports whether the processor and the kernel run 32-bit executables of
// an architecture, by running one that ends at once. (Processors and kernels of
// 64 bits exist without this mode.)
func runs32(arch string) bool {
	code, ok := map[string][]byte{
		// mov eax, 1; xor ebx, ebx; int 0x80
		"386": {0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80},
		// mov r0, #0; mov r7, #1; svc 0
		"arm": {0x00, 0x00, 0xa0, 0xe3, 0x01, 0x70, 0xa0, 0xe3, 0x00, 0x00, 0x00, 0xef},
	}[arch]
	if !ok {
		return false
	}
	fd, err := unix.MemfdCreate("probe", 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), "probe")
	defer f.Close()
	if _, err := f.Write(tinyELF32(arch, code)); err != nil {
		return false
	}
	return exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)).Run() == nil
}

// tinyELF32 is an executable of one segment.
func tinyELF32(arch string, code []byte) []byte {
	const base, head = 0x10000, 52 + 32
	h, _ := elfHeader(arch)
	h = h[:20]
	for _, v := range []uint32{1, base + head, 52, 0, 0} { // version, entry, program headers, sections, flags
		h = binary.LittleEndian.AppendUint32(h, v)
	}
	if arch == "arm" {
		binary.LittleEndian.PutUint32(h[36:], 0x05000000) // EABI 5
	}
	for _, v := range []uint16{52, 32, 1, 0, 0, 0} { // sizes and counts of headers
		h = binary.LittleEndian.AppendUint16(h, v)
	}
	size := uint32(head + len(code))
	for _, v := range []uint32{1, 0, base, base, size, size, 5, 0x1000} { // load it all, read and execute
		h = binary.LittleEndian.AppendUint32(h, v)
	}
	return append(h, code...)
}
