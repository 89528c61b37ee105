package chroot

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ntPrstatus      = 1     // NT_PRSTATUS of linux/elf.h
	ntARMSystemCall = 0x404 // NT_ARM_SYSTEM_CALL
)

// registers are those of a thread that is stopped at a system call.
type registers struct{ r unix.PtraceRegsArm64 }

func (g *registers) load(tid int) error  { return unix.PtraceGetRegSetArm64(tid, ntPrstatus, &g.r) }
func (g *registers) store(tid int) error { return unix.PtraceSetRegSetArm64(tid, ntPrstatus, &g.r) }

func (g *registers) number() int { return int(int32(g.r.Regs[8])) }

func (g *registers) arg(i int) uint64 { return g.r.Regs[i] }

func (g *registers) setArg(i int, v uint64) { g.r.Regs[i] = v }

// setNumber changes which system call is made; -1 is none.
func (g *registers) setNumber(tid, nr int) error {
	n := int32(nr)
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&n)), Len: 4}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), ntARMSystemCall, uintptr(unsafe.Pointer(&iov)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (g *registers) result() int64     { return int64(g.r.Regs[0]) }
func (g *registers) setResult(v int64) { g.r.Regs[0] = uint64(v) }

// again makes a thread that has left a system call make the one of before.
func (g *registers) again(before *registers) {
	*g = *before
	g.r.Pc -= 4 // the length of "svc #0"
}

// resultIsFirstArgument: a call's result takes the place of its first argument.
const resultIsFirstArgument = true

// cloneFlags are those of the call that started a thread.
func cloneFlags(g *registers) uint64 {
	if g.number() == unix.SYS_CLONE {
		return g.arg(0)
	}
	return 0
}

// startCalls start threads and processes.
func startCalls() []int { return []int{unix.SYS_CLONE} }
