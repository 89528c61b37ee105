package kernel

import (
	"encoding/binary"
	"path/filepath"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/trace"
)

// maxSocketPath is the longest name in a sockaddr_un, without the zero byte.
const maxSocketPath = 107

// doAddress resolves the path of a local socket's address in arguments 1 and 2.
func (c *call) doAddress(follow bool) (int64, error) {
	size := c.Reg.Arg(2)
	if size <= 2 || size > 110 {
		return 0, trace.ErrAsIs
	}
	addr := make([]byte, size)
	if err := ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(1), addr); err != nil {
		return 0, err
	}
	if binary.NativeEndian.Uint16(addr) != unix.AF_UNIX || addr[2] == 0 {
		return 0, trace.ErrAsIs
	}
	name := unix.ByteSliceToString(addr[2:])
	p, err := c.resolve(atCwd, name, follow)
	if err != nil {
		return 0, err
	}
	if !follow && p.ReadOnly {
		return 0, unix.EROFS
	}
	host, err := c.shortName(p.Host)
	if err != nil {
		return 0, err
	}
	addr = append(binary.NativeEndian.AppendUint16(nil, unix.AF_UNIX), host...)
	at, err := c.Put(append(addr, 0))
	if err != nil {
		return 0, err
	}
	c.Reg.SetArg(1, at)
	c.Reg.SetArg(2, uint64(len(addr)+1))
	return 0, trace.ErrChanged
}

// shortName names a socket by its directory, which is held open, where its path is
// too long for an address.
func (c *call) shortName(host string) (string, error) {
	if len(host) <= maxSocketPath {
		return host, nil
	}
	dir, err := unix.Open(filepath.Dir(host), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	name := descriptorPath(unix.Getpid(), dir) + "/" + filepath.Base(host)
	if len(name) > maxSocketPath {
		unix.Close(dir)
		return "", unix.ENAMETOOLONG
	}
	c.Task.After = func(*trace.Call) { unix.Close(dir) }
	return name, nil
}
