package chroot

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
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/view"
)

// maxScripts is how often an interpreter may be a script itself.
const maxScripts = 4

// shadows are copies of programs whose interpreter (the dynamic loader) is named as
// this machine names it: the kernel looks for it there. They are made once a program.
type shadows struct {
	dir string
	// of says what a copy was made of.
	of map[string]string
	// links are names of programs that need no copy.
	links map[string]bool
}

// original returns what an executed file is a copy of, or itself.
func (s *shadows) original(host string) string {
	if o, ok := s.of[host]; ok {
		return o
	}
	return host
}

// elfHead is what has to be known of an ELF file to execute it.
type elfHead struct {
	interp string // "" if it has none
	// phdr is the position of the program header that says where the name is.
	phdr int64
}

// readELF looks at a file that begins like an ELF file.
func readELF(f *os.File) (elfHead, error) {
	var h elf.Header64
	if err := binary.Read(io.NewSectionReader(f, 0, 64), binary.LittleEndian, &h); err != nil {
		return elfHead{}, unix.ENOEXEC
	}
	if elf.Class(h.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Machine(h.Machine) != machine || h.Phentsize != 56 {
		return elfHead{}, unix.ENOEXEC
	}
	for i := range int64(h.Phnum) {
		at := int64(h.Phoff) + 56*i
		var p elf.Prog64
		if err := binary.Read(io.NewSectionReader(f, at, 56), binary.LittleEndian, &p); err != nil {
			return elfHead{}, unix.ENOEXEC
		}
		if elf.ProgType(p.Type) != elf.PT_INTERP {
			continue
		}
		if p.Filesz < 2 || p.Filesz > unix.PathMax {
			return elfHead{}, unix.ENOEXEC
		}
		name := make([]byte, p.Filesz)
		if _, err := f.ReadAt(name, int64(p.Off)); err != nil {
			return elfHead{}, unix.ENOEXEC
		}
		return elfHead{interp: string(bytes.TrimRight(name, "\x00")), phdr: at}, nil
	}
	return elfHead{}, nil
}

// link returns a name for a program under which processes are called what the step
// calls it: the kernel takes that from the path.
func (s *shadows) link(host, called string) string {
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

// copy returns a copy of a program that names another interpreter. The process is
// called as the step names it.
func (s *shadows) copy(host, called string, f *os.File, h elfHead, interp string) (string, error) {
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

func (s *shadows) make(dir, name string, f *os.File, h elfHead, interp string) error {
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

// execution is what execve(2) comes down to.
type execution struct {
	file view.Place
	// before are arguments that replace the first one: of scripts.
	before []string
	host   string // what the kernel executes
	st     unix.Stat_t
}

// find follows interpreters of scripts to a program.
func (c *call) find(p view.Place, name string) (*execution, error) {
	e := &execution{file: p}
	for range maxScripts + 1 {
		st, err := c.k.t.stat(e.file.Host, true)
		if err != nil {
			return nil, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
			return nil, unix.EACCES
		}
		e.st = st
		f, err := os.Open(e.file.Host)
		if err != nil {
			return nil, errnoOf(err)
		}
		head := make([]byte, 256)
		n, _ := io.ReadFull(f, head)
		head = head[:n]
		switch {
		case bytes.HasPrefix(head, []byte("\x7fELF")):
			e.host, err = c.loadable(e.file.Host, path.Base(name), f)
			f.Close()
			return e, err
		case !bytes.HasPrefix(head, []byte("#!")):
			f.Close()
			return nil, unix.ENOEXEC
		}
		f.Close()
		interp, arg, ok := parseScript(head)
		if !ok {
			return nil, unix.ENOEXEC
		}
		args := []string{interp}
		if arg != "" {
			args = append(args, arg)
		}
		args = append(args, name)
		if len(e.before) > 0 {
			args = append(args, e.before[1:]...)
		}
		e.before, name = args, interp
		if e.file, err = c.resolve(atCwd, interp, true); err != nil {
			return nil, err
		}
	}
	return nil, unix.ELOOP
}

// parseScript reads the first line of a script, as Linux does.
func parseScript(head []byte) (interp, arg string, ok bool) {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	text := strings.Trim(string(line), " \t\r\x00")
	i := strings.IndexAny(text, " \t")
	if i < 0 {
		return text, "", text != ""
	}
	return text[:i], strings.Trim(text[i:], " \t"), true
}

// loadable returns a file that the kernel can execute by itself, for a program that
// the step calls by a name.
func (c *call) loadable(host, called string, f *os.File) (string, error) {
	h, err := readELF(f)
	if err != nil {
		return "", err
	}
	if h.interp == "" {
		return c.k.t.exec.link(host, called), nil
	}
	interp, err := c.resolve(atCwd, h.interp, true)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(interp.Host); err != nil {
		return "", errnoOf(err)
	}
	return c.k.t.exec.copy(host, called, f, h, interp.Host)
}

func (c *call) doExecve(at int, p view.Place, name string) (int64, error) {
	e, err := c.find(p, name)
	if err != nil {
		return 0, err
	}
	if err := c.setPath(at, e.host); err != nil {
		return 0, err
	}
	if len(e.before) > 0 {
		if err := c.setArguments(at+1, e.before); err != nil {
			return 0, err
		}
	}
	k := c.k
	k.after = func(c *call) {
		if c.done {
			k.creds = k.creds.Exec(e.st.Mode, e.st.Uid, e.st.Gid)
		}
	}
	return 0, errChanged
}

// setArguments puts a script's arguments in the place of the first one.
func (c *call) setArguments(i int, before []string) error {
	old, err := ptrace.ReadPointers(c.k.tid, c.reg.Arg(i))
	if err != nil {
		return err
	}
	var list []uint64
	for _, a := range before {
		addr, err := c.put(append([]byte(a), 0))
		if err != nil {
			return err
		}
		list = append(list, addr)
	}
	if len(old) > 0 {
		list = append(list, old[1:]...)
	}
	addr, err := c.put(pointers(list))
	if err != nil {
		return err
	}
	c.reg.SetArg(i, addr)
	return nil
}

func (c *call) execve() (int64, error) {
	name, err := c.path(0)
	if err != nil {
		return 0, err
	}
	p, err := c.resolve(atCwd, name, true)
	if err != nil {
		return 0, err
	}
	return c.doExecve(0, p, name)
}

func (c *call) execveat() (int64, error) {
	flags := c.flags(4)
	name, err := c.path(1)
	if err != nil {
		return 0, err
	}
	p, err := c.object(c.fd(0), 1, flags)
	if err != nil {
		return 0, err
	}
	switch {
	case name == "":
		name = "/dev/fd/" + itoa(c.fd(0))
	case name[0] != '/':
		name = p.Guest
	}
	c.reg.SetArg(4, 0)
	return c.doExecve(1, p, name)
}
