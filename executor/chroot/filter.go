package chroot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data of linux/seccomp.h.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// x32Bit marks the calls of another calling convention of x86.
const x32Bit = 0x40000000

// namespaceFlags are those of clone(2) that make namespaces.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// program is a seccomp filter in the making: a list of tests of the number, each
// followed by what happens then.
type program []unix.SockFilter

func stmt(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func (p *program) load(offset uint32) {
	*p = append(*p, stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset))
}

func (p *program) ret(action uint32) { *p = append(*p, stmt(unix.BPF_RET|unix.BPF_K, action)) }

// ifEqual does what then says if the accumulator is k.
func (p *program) ifEqual(k uint32, then func(*program)) {
	var body program
	then(&body)
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: uint8(len(body))})
	*p = append(*p, body...)
}

func (p *program) ifSet(bits uint32, then func(*program)) {
	var body program
	then(&body)
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: bits, Jf: uint8(len(body))})
	*p = append(*p, body...)
}

func refuse(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// filterFor is the filter of a step: numbers in traced stop for the tracer, those in
// refused fail.
type filterFor struct {
	traced  []int
	refused map[int]unix.Errno
	// offline: there are no sockets but local ones.
	offline bool
	// counted: the tracer decides about new threads too.
	counted bool
}

func (f filterFor) program() program {
	var p program
	p.load(offsetArch)
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1})
	p.ret(unix.SECCOMP_RET_KILL_PROCESS)
	p.load(offsetNumber)
	if runtime.GOARCH == "amd64" {
		p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32Bit, Jf: 1})
		p.ret(refuse(unix.ENOSYS))
	}
	if f.offline {
		p.ifEqual(unix.SYS_SOCKET, func(p *program) {
			p.load(offsetArgs)
			for _, family := range []uint32{unix.AF_UNIX, unix.AF_NETLINK} {
				p.ifEqual(family, func(p *program) { p.ret(unix.SECCOMP_RET_ALLOW) })
			}
			p.ret(refuse(unix.EAFNOSUPPORT))
		})
	}
	if len(f.traced) > 0 {
		p.ifEqual(unix.SYS_CLONE, func(p *program) {
			p.load(offsetArgs)
			p.ifSet(namespaceFlags, func(p *program) { p.ret(refuse(unix.EPERM)) })
			if f.counted {
				p.ret(unix.SECCOMP_RET_TRACE)
			}
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
		p.ifEqual(unix.SYS_PRCTL, func(p *program) {
			p.load(offsetArgs)
			for _, option := range tracedOptions() {
				p.ifEqual(uint32(option), func(p *program) { p.ret(unix.SECCOMP_RET_TRACE) })
			}
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
		p.ifEqual(unix.SYS_PRLIMIT64, func(p *program) {
			p.load(offsetArgs)
			p.ifEqual(0, func(p *program) { p.ret(unix.SECCOMP_RET_ALLOW) })
			p.ret(unix.SECCOMP_RET_TRACE)
		})
	}
	slices.Sort(f.traced)
	for _, nr := range f.traced {
		p.ifEqual(uint32(nr), func(p *program) { p.ret(unix.SECCOMP_RET_TRACE) })
	}
	for nr, errno := range f.refused {
		p.ifEqual(uint32(nr), func(p *program) { p.ret(refuse(errno)) })
	}
	p.ret(unix.SECCOMP_RET_ALLOW)
	return p
}

// install puts the filter on all threads of this process, for good.
func (p program) install() error {
	if len(p) > unix.BPF_MAXINSNS {
		return errors.New("install seccomp filter: too long")
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no-new-privileges: %w", err)
	}
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("install seccomp filter: %w", errno)
	}
	return nil
}

// bytes is the program as it is sent to the process that installs it.
func (p program) bytes() []byte {
	var out []byte
	for _, in := range p {
		out = binary.NativeEndian.AppendUint16(out, in.Code)
		out = append(out, in.Jt, in.Jf)
		out = binary.NativeEndian.AppendUint32(out, in.K)
	}
	return out
}

func parseProgram(b []byte) program {
	p := make(program, len(b)/8)
	for i := range p {
		in := b[8*i:]
		p[i] = unix.SockFilter{Code: binary.NativeEndian.Uint16(in), Jt: in[2], Jf: in[3], K: binary.NativeEndian.Uint32(in[4:])}
	}
	return p
}

// refusedCalls would lead around the tracer, or out of the step.
func refusedCalls() map[int]unix.Errno {
	out := map[int]unix.Errno{
		unix.SYS_CLONE3: unix.ENOSYS, unix.SYS_OPENAT2: unix.ENOSYS,
		unix.SYS_IO_URING_SETUP: unix.ENOSYS, unix.SYS_IO_URING_ENTER: unix.ENOSYS, unix.SYS_IO_URING_REGISTER: unix.ENOSYS,
		unix.SYS_NAME_TO_HANDLE_AT: unix.EOPNOTSUPP, unix.SYS_FANOTIFY_MARK: unix.ENOSYS, unix.SYS_FANOTIFY_INIT: unix.ENOSYS,
	}
	for _, nr := range []int{
		unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
		unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
		unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL,
		unix.SYS_QUOTACTL_FD, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
		unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
		unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
		unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_PROCESS_MADVISE,
	} {
		out[nr] = unix.EPERM
	}
	for nr := unix.SYS_FCHMODAT2 + 1; nr <= lastCall; nr++ {
		out[nr] = unix.ENOSYS // newer than this list; some take paths
	}
	delete(out, unix.SYS_FCHMODAT2)
	return out
}

// lastCall is a number above those of all system calls there are.
const lastCall = 480
