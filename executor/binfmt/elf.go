package binfmt

import (
	"encoding/binary"
)

// target is what an executable of an architecture says at its beginning.
type target struct {
	bits    byte // 1: 32, 2: 64
	order   binary.ByteOrder
	machine uint16
}

// targets are the architectures of Go's names that Linux has emulators for.
func targets() map[string]target {
	little, big := binary.LittleEndian, binary.BigEndian
	return map[string]target{
		"386":      {1, little, 3},
		"amd64":    {2, little, 62},
		"arm":      {1, little, 40},
		"arm64":    {2, little, 183},
		"loong64":  {2, little, 258},
		"mips64":   {2, big, 8},
		"mips64le": {2, little, 8},
		"ppc64":    {2, big, 21},
		"ppc64le":  {2, little, 21},
		"riscv64":  {2, little, 243},
		"s390x":    {2, big, 22},
	}
}

// elfHeader is how an executable begins: the identification, then type and
// machine (elf(5)).
func elfHeader(arch string) ([]byte, bool) {
	t, ok := targets()[arch]
	if !ok {
		return nil, false
	}
	h := make([]byte, 20, 96)
	copy(h, "\x7fELF")
	h[4], h[5], h[6] = t.bits, 1, 1
	if t.order == binary.ByteOrder(binary.BigEndian) {
		h[5] = 2
	}
	t.order.PutUint16(h[16:], 2) // executable
	t.order.PutUint16(h[18:], t.machine)
	return h, true
}
