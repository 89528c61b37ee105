package ptrace

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ntPrstatus      = 1     // NT_PRSTATUS of linux/elf.h
	ntARMSystemCall = 0x404 // NT_ARM_SYSTEM_CALL
)

// Registers are those of a thread that is stopped at a system call.
type Registers struct{ r unix.PtraceRegsArm64 }

// Load reads the registers of a thread.
func (g *Registers) Load(tid int) error { return unix.PtraceGetRegSetArm64(tid, ntPrstatus, &g.r) }

// Store makes them the thread's.
func (g *Registers) Store(tid int) error { return unix.PtraceSetRegSetArm64(tid, ntPrstatus, &g.r) }

// Number says which system call it is.
func (g *Registers) Number() int { return int(int32(g.r.Regs[8])) }

// Arg is an argument of the call, of 6.
func (g *Registers) Arg(i int) uint64 { return g.r.Regs[i] }

// SetArg changes an argument.
func (g *Registers) SetArg(i int, v uint64) { g.r.Regs[i] = v }

// SetNumber changes which system call is made; -1 is none.
func (g *Registers) SetNumber(tid, nr int) error {
	n := int32(nr)
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(&n)), Len: 4}
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGSET, uintptr(tid), ntARMSystemCall, uintptr(unsafe.Pointer(&iov)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Result is what the call returns: an Errno is negative.
func (g *Registers) Result() int64 { return int64(g.r.Regs[0]) }

// SetResult changes what it returns.
func (g *Registers) SetResult(v int64) { g.r.Regs[0] = uint64(v) }

// Again makes a thread that has left a system call make the one of before.
func (g *Registers) Again(before *Registers) {
	*g = *before
	g.r.Pc -= 4 // the length of "svc #0"
}

// ResultIsFirstArgument: a call's result takes the place of its first argument.
const ResultIsFirstArgument = true

// CloneFlags are those of the call that started a thread.
func CloneFlags(g *Registers) uint64 {
	if g.Number() == unix.SYS_CLONE {
		return g.Arg(0)
	}
	return 0
}

// StartCalls start threads and processes.
func StartCalls() []int { return []int{unix.SYS_CLONE} }
