package program

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Shadows are copies of programs whose interpreter (the dynamic loader) is named as
// this machine names it: the kernel looks for it there. They are made once a program.
// They belong to one goroutine.
type Shadows struct {
	dir string
	// of says what a copy was made of.
	of map[string]string
	// links are names of programs that need no copy.
	links map[string]bool
}

// NewShadows returns those of a directory, in which programs must be executable.
func NewShadows(dir string) *Shadows {
	return &Shadows{dir: dir, of: map[string]string{}, links: map[string]bool{}}
}

// Original returns what an executed file is a copy of, or itself.
func (s *Shadows) Original(host string) string {
	if o, ok := s.of[host]; ok {
		return o
	}
	return host
}

// Link returns a name for a program under which processes are called what the step
// calls it: the kernel takes that from the path.
func (s *Shadows) Link(host, called string) string {
	if called == filepath.Base(host) || called == "/" || called == "." {
		return host
	}
	sum := sha256.Sum256([]byte("link " + host))
	dir := filepath.Join(s.dir, hex.EncodeToString(sum[:12]))
	name := filepath.Join(dir, called)
	if s.links[name] {
		return name
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return host
	}
	if err := os.Symlink(host, name); err != nil && !errors.Is(err, os.ErrExist) {
		return host
	}
	s.links[name] = true
	return name
}

// Copy returns a copy of a program that names another interpreter. The process is
// called as the step names it.
func (s *Shadows) Copy(host, called string, f *os.File, h Head, interp string) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %d %d %s %s", st.Dev, st.Ino, st.Size, st.Ctim.Sec, st.Ctim.Nsec, interp, called))
	dir := filepath.Join(s.dir, hex.EncodeToString(sum[:12]))
	name := filepath.Join(dir, called)
	if _, ok := s.of[name]; ok {
		return name, nil
	}
	if _, err := os.Lstat(name); err != nil {
		if err := s.make(dir, called, f, h, interp); err != nil {
			return "", err
		}
	}
	s.of[name] = host
	return name, nil
}

func (s *Shadows) make(dir, name string, f *os.File, h Head, interp string) error {
	tmp, err := os.MkdirTemp(s.dir, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) // nothing is left there after the renaming
	out, err := os.OpenFile(filepath.Join(tmp, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	size, err := io.Copy(out, io.NewSectionReader(f, 0, 1<<62))
	if err == nil {
		_, err = out.WriteAt(append([]byte(interp), 0), size)
	}
	if err == nil {
		var p elf.Prog64
		if err = binary.Read(io.NewSectionReader(f, h.phdr, 56), binary.LittleEndian, &p); err == nil {
			p.Off, p.Filesz = uint64(size), uint64(len(interp)+1)
			var b bytes.Buffer
			_ = binary.Write(&b, binary.LittleEndian, &p)
			_, err = out.WriteAt(b.Bytes(), h.phdr)
		}
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}
