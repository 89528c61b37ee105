package kernel

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/program"
	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/chroot/view"
)

// maxScripts is how often an interpreter may be a script itself.
const maxScripts = 4

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
		st, err := c.kernel.stat(e.file.Host, true)
		if err != nil {
			return nil, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0 {
			return nil, unix.EACCES
		}
		e.st = st
		f, err := os.Open(e.file.Host)
		if err != nil {
			return nil, trace.ErrnoOf(err)
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
		interp, arg, ok := program.ParseScript(head)
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

// loadable returns a file that the kernel can execute by itself, for a program that
// the step calls by a name.
func (c *call) loadable(host, called string, f *os.File) (string, error) {
	h, err := program.ReadELF(f)
	if err != nil {
		return "", err
	}
	if h.Interp == "" {
		return c.kernel.programs.Link(host, called), nil
	}
	interp, err := c.resolve(atCwd, h.Interp, true)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(interp.Host); err != nil {
		return "", trace.ErrnoOf(err)
	}
	return c.kernel.programs.Copy(host, called, f, h, interp.Host)
}

func (c *call) doExecve(at int, p view.Place, name string) (int64, error) {
	e, err := c.find(p, name)
	if err != nil {
		return 0, err
	}
	if err := c.SetPath(at, e.host); err != nil {
		return 0, err
	}
	if len(e.before) > 0 {
		if err := c.setArguments(at+1, e.before); err != nil {
			return 0, err
		}
	}
	c.Task.After = func(end *trace.Call) {
		if k := end.Task; end.Done {
			k.Creds = k.Creds.Exec(e.st.Mode, e.st.Uid, e.st.Gid)
		}
	}
	return 0, trace.ErrChanged
}

// setArguments puts a script's arguments in the place of the first one.
func (c *call) setArguments(i int, before []string) error {
	old, err := ptrace.ReadPointers(c.Task.TID, c.Reg.Arg(i))
	if err != nil {
		return err
	}
	var list []uint64
	for _, a := range before {
		addr, err := c.Put(append([]byte(a), 0))
		if err != nil {
			return err
		}
		list = append(list, addr)
	}
	if len(old) > 0 {
		list = append(list, old[1:]...)
	}
	addr, err := c.Put(pointers(list))
	if err != nil {
		return err
	}
	c.Reg.SetArg(i, addr)
	return nil
}

func (c *call) execve() (int64, error) {
	name, err := c.Path(0)
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
	flags := c.Flags(4)
	name, err := c.Path(1)
	if err != nil {
		return 0, err
	}
	p, err := c.object(c.FD(0), 1, flags)
	if err != nil {
		return 0, err
	}
	switch {
	case name == "":
		name = "/dev/fd/" + itoa(c.FD(0))
	case name[0] != '/':
		name = p.Guest
	}
	c.Reg.SetArg(4, 0)
	return c.doExecve(1, p, name)
}

func pointers(list []uint64) []byte {
	out := make([]byte, 0, 8*len(list)+8)
	for _, p := range list {
		out = binary.NativeEndian.AppendUint64(out, p)
	}
	return binary.NativeEndian.AppendUint64(out, 0)
}
