package kernel

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/fakeid"
)

func itoa(n int) string { return strconv.Itoa(n) }

// id is an argument that is a user or group id.
func (c *call) id(i int) uint32 { return uint32(c.Reg.Arg(i)) }

// become makes the result of a change of credentials the thread's.
func (c *call) become(n fakeid.Creds, err error) (int64, error) {
	if err == nil {
		c.Task.Creds = n
	}
	return 0, err
}

// giveIDs writes ids to where the first arguments point.
func (c *call) giveIDs(ids ...uint32) (int64, error) {
	for i, id := range ids {
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], id)
		if err := ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(i), b[:]); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (c *call) doGetgroups() (int64, error) {
	groups := c.Task.Creds.Groups
	size := c.FD(0)
	switch {
	case size == 0:
		return int64(len(groups)), nil
	case size < len(groups):
		return 0, unix.EINVAL
	}
	var b []byte
	for _, g := range groups {
		b = binary.NativeEndian.AppendUint32(b, g)
	}
	return int64(len(groups)), ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(1), b)
}

func (c *call) doSetgroups() (int64, error) {
	n := c.Reg.Arg(0)
	if n > 65536 {
		return 0, unix.EINVAL
	}
	b := make([]byte, 4*n)
	if err := ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(1), b); err != nil {
		return 0, err
	}
	groups := make([]uint32, n)
	for i := range groups {
		groups[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return c.become(c.Task.Creds.Setgroups(groups))
}

// idCalls are the calls about the thread's own ids.
func idCalls() map[int]answer {
	get := func(f func(fakeid.Creds) uint32) answer {
		return func(c *call) (int64, error) { return int64(f(c.Task.Creds)), nil }
	}
	return map[int]answer{
		unix.SYS_GETUID:  get(func(c fakeid.Creds) uint32 { return c.UID.Real }),
		unix.SYS_GETEUID: get(func(c fakeid.Creds) uint32 { return c.UID.Effective }),
		unix.SYS_GETGID:  get(func(c fakeid.Creds) uint32 { return c.GID.Real }),
		unix.SYS_GETEGID: get(func(c fakeid.Creds) uint32 { return c.GID.Effective }),
		unix.SYS_GETRESUID: func(c *call) (int64, error) {
			i := c.Task.Creds.UID
			return c.giveIDs(i.Real, i.Effective, i.Saved)
		},
		unix.SYS_GETRESGID: func(c *call) (int64, error) {
			i := c.Task.Creds.GID
			return c.giveIDs(i.Real, i.Effective, i.Saved)
		},
		unix.SYS_GETGROUPS: (*call).doGetgroups,
		unix.SYS_SETGROUPS: (*call).doSetgroups,
		unix.SYS_SETUID:    func(c *call) (int64, error) { return c.become(c.Task.Creds.Setuid(c.id(0))) },
		unix.SYS_SETGID:    func(c *call) (int64, error) { return c.become(c.Task.Creds.Setgid(c.id(0))) },
		unix.SYS_SETREUID:  func(c *call) (int64, error) { return c.become(c.Task.Creds.Setreuid(c.id(0), c.id(1))) },
		unix.SYS_SETREGID:  func(c *call) (int64, error) { return c.become(c.Task.Creds.Setregid(c.id(0), c.id(1))) },
		unix.SYS_SETRESUID: func(c *call) (int64, error) {
			return c.become(c.Task.Creds.Setresuid(c.id(0), c.id(1), c.id(2)))
		},
		unix.SYS_SETRESGID: func(c *call) (int64, error) {
			return c.become(c.Task.Creds.Setresgid(c.id(0), c.id(1), c.id(2)))
		},
		unix.SYS_SETFSUID: func(c *call) (int64, error) {
			n, old := c.Task.Creds.Setfsuid(c.id(0))
			c.Task.Creds = n
			return int64(old), nil
		},
		unix.SYS_SETFSGID: func(c *call) (int64, error) {
			n, old := c.Task.Creds.Setfsgid(c.id(0))
			c.Task.Creds = n
			return int64(old), nil
		},
		unix.SYS_CAPGET: (*call).doCapget,
		unix.SYS_CAPSET: func(*call) (int64, error) { return 0, nil },
	}
}

// dockerCaps are the capabilities that root has in a container of docker's.
const dockerCaps = 0xa80425fb

// doCapget says that root has what it usually has.
func (c *call) doCapget() (int64, error) {
	var hdr [8]byte
	if err := ptrace.ReadMemory(c.Task.TID, c.Reg.Arg(0), hdr[:]); err != nil {
		return 0, err
	}
	words := 2
	switch binary.NativeEndian.Uint32(hdr[:]) {
	case unix.LINUX_CAPABILITY_VERSION_1:
		words = 1
	case unix.LINUX_CAPABILITY_VERSION_2, unix.LINUX_CAPABILITY_VERSION_3:
	default:
		return 0, trace.ErrAsIs // which says what is supported
	}
	if c.Reg.Arg(1) == 0 {
		return 0, nil
	}
	data := make([]byte, 12*words)
	if c.Task.Creds.IsRoot() {
		binary.NativeEndian.PutUint32(data, dockerCaps)     // effective
		binary.NativeEndian.PutUint32(data[4:], dockerCaps) // permitted
	}
	return 0, ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(1), data)
}

// PrctlOptions are those of prctl(2) that the tracer answers.
func PrctlOptions() []int {
	return []int{unix.PR_SET_DUMPABLE, unix.PR_CAPBSET_DROP, unix.PR_CAP_AMBIENT, unix.PR_SET_SECUREBITS, unix.PR_SET_MM}
}

func (c *call) doPrctl() (int64, error) {
	switch int(c.Reg.Arg(0)) {
	case unix.PR_SET_MM:
		return 0, unix.EPERM
	case unix.PR_SET_DUMPABLE:
		return 0, nil // the tracer could not read its memory any more
	case unix.PR_CAP_AMBIENT:
		if int(c.Reg.Arg(1)) == unix.PR_CAP_AMBIENT_IS_SET {
			return 0, nil
		}
	}
	if !c.Task.Creds.IsRoot() {
		return 0, unix.EPERM
	}
	return 0, nil
}

// doKill lets a thread signal the step's own processes only.
func (c *call) doKill() (int64, error) {
	pid := c.FD(0)
	switch {
	case pid == 0, pid > 0 && c.Task.Tracer.Knows(pid):
		return 0, trace.ErrAsIs
	case pid == -1:
		c.Task.Tracer.SignalAll(c.Task.PID, unix.Signal(c.Reg.Arg(1)))
		return 0, nil
	case pid < -1 && c.Task.Tracer.HasGroup(-pid):
		return 0, trace.ErrAsIs
	}
	return 0, unix.ESRCH
}

// ownProcess is for calls on the process in argument 0.
func ownProcess(c *call) (int64, error) {
	if pid := c.FD(0); pid != 0 && !c.Task.Tracer.Knows(pid) {
		return 0, unix.ESRCH
	}
	return 0, trace.ErrAsIs
}

func (c *call) doUname() (int64, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, err
	}
	clear(u.Nodename[:])
	copy(u.Nodename[:len(u.Nodename)-1], c.kernel.hostname)
	return 0, ptrace.WriteMemory(c.Task.TID, c.Reg.Arg(0), structBytes(&u))
}
