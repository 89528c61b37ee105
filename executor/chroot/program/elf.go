package program

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Head is what has to be known of an ELF file to execute it.
type Head struct {
	Interp string // "" if it has none
	// phdr is the position of the program header that says where the name is.
	phdr int64
}

// ReadELF looks at a file that begins like an ELF file.
func ReadELF(f *os.File) (Head, error) {
	var h elf.Header64
	if err := binary.Read(io.NewSectionReader(f, 0, 64), binary.LittleEndian, &h); err != nil {
		return Head{}, unix.ENOEXEC
	}
	if elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Machine(h.Machine) != machine || h.Phentsize != 56 {
		return Head{}, unix.ENOEXEC
	}
	for i := range int64(h.Phnum) {
		at := int64(h.Phoff) + 56*i
		var p elf.Prog64
		if err := binary.Read(io.NewSectionReader(f, at, 56), binary.LittleEndian, &p); err != nil {
			return Head{}, unix.ENOEXEC
		}
		if elf.ProgType(p.Type) != elf.PT_INTERP {
			continue
		}
		if p.Filesz < 2 || p.Filesz > unix.PathMax {
			return Head{}, unix.ENOEXEC
		}
		name := make([]byte, p.Filesz)
		if _, err := f.ReadAt(name, int64(p.Off)); err != nil {
			return Head{}, unix.ENOEXEC
		}
		return Head{Interp: string(bytes.TrimRight(name, "\x00")), phdr: at}, nil
	}
	return Head{}, nil
}
