// Package filter makes the seccomp filter of a step that is traced: it says which system
// calls stop for the tracer, which are refused, and lets all others run at full speed.
package filter

import (
	"runtime"
	"slices"

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

// Program is a seccomp filter: a list of tests of the number, each
// followed by what happens then.
type Program []unix.SockFilter

func stmt(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }

func (p *Program) load(offset uint32) {
	*p = append(*p, stmt(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, offset))
}

func (p *Program) ret(action uint32) { *p = append(*p, stmt(unix.BPF_RET|unix.BPF_K, action)) }

// ifEqual does what then says if the accumulator is k.
func (p *Program) ifEqual(k uint32, then func(*Program)) {
	var body Program
	then(&body)
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: uint8(len(body))})
	*p = append(*p, body...)
}

func (p *Program) ifSet(bits uint32, then func(*Program)) {
	var body Program
	then(&body)
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: bits, Jf: uint8(len(body))})
	*p = append(*p, body...)
}

func refuse(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// Rules say what the filter of a step does.
type Rules struct {
	// Traced are the numbers of the calls that stop for the tracer. Of clone(2) only
	// those stop that Counted is about, of prctl(2) those with an option of Options, and
	// of prlimit64(2) those about another process.
	Traced []int
	// Options are those of prctl(2).
	Options []int
	// Offline: there are no sockets but local ones.
	Offline bool
	// Counted: the tracer decides about new threads too.
	Counted bool
}

// Program is the filter. Calls that would lead around the tracer fail in it.
func (f Rules) Program() Program {
	var p Program
	p.load(offsetArch)
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1})
	p.ret(unix.SECCOMP_RET_KILL_PROCESS)
	p.load(offsetNumber)
	if runtime.GOARCH == "amd64" {
		p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32Bit, Jf: 1})
		p.ret(refuse(unix.ENOSYS))
	}
	if f.Offline {
		p.ifEqual(unix.SYS_SOCKET, func(p *Program) {
			p.load(offsetArgs)
			for _, family := range []uint32{unix.AF_UNIX, unix.AF_NETLINK} {
				p.ifEqual(family, func(p *Program) { p.ret(unix.SECCOMP_RET_ALLOW) })
			}
			p.ret(refuse(unix.EAFNOSUPPORT))
		})
	}
	if len(f.Traced) > 0 {
		p.ifEqual(unix.SYS_CLONE, func(p *Program) {
			p.load(offsetArgs)
			p.ifSet(namespaceFlags, func(p *Program) { p.ret(refuse(unix.EPERM)) })
			if f.Counted {
				p.ret(unix.SECCOMP_RET_TRACE)
			}
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
		p.ifEqual(unix.SYS_PRCTL, func(p *Program) {
			p.load(offsetArgs)
			for _, option := range f.Options {
				p.ifEqual(uint32(option), func(p *Program) { p.ret(unix.SECCOMP_RET_TRACE) })
			}
			p.ret(unix.SECCOMP_RET_ALLOW)
		})
		p.ifEqual(unix.SYS_PRLIMIT64, func(p *Program) {
			p.load(offsetArgs)
			p.ifEqual(0, func(p *Program) { p.ret(unix.SECCOMP_RET_ALLOW) })
			p.ret(unix.SECCOMP_RET_TRACE)
		})
	}
	for _, nr := range slices.Sorted(slices.Values(f.Traced)) {
		if nr == unix.SYS_CLONE || nr == unix.SYS_PRCTL || nr == unix.SYS_PRLIMIT64 {
			continue // see above
		}
		p.ifEqual(uint32(nr), func(p *Program) { p.ret(unix.SECCOMP_RET_TRACE) })
	}
	for nr, errno := range refusedCalls() {
		p.ifEqual(uint32(nr), func(p *Program) { p.ret(refuse(errno)) })
	}
	p.ret(unix.SECCOMP_RET_ALLOW)
	return p
}
