package ptrace

import "golang.org/x/sys/unix"

// Registers are those of a thread that is stopped at a system call.
type Registers struct{ r unix.PtraceRegs }

// Load reads the registers of a thread.
func (g *Registers) Load(tid int) error { return unix.PtraceGetRegs(tid, &g.r) }

// Store makes them the thread's.
func (g *Registers) Store(tid int) error { return unix.PtraceSetRegs(tid, &g.r) }

// Number says which system call it is.
func (g *Registers) Number() int { return int(int32(g.r.Orig_rax)) }

// Arg is an argument of the call, of 6.
func (g *Registers) Arg(i int) uint64 { return *g.argument(i) }

// SetArg changes an argument.
func (g *Registers) SetArg(i int, v uint64) { *g.argument(i) = v }

func (g *Registers) argument(i int) *uint64 {
	switch i {
	case 0:
		return &g.r.Rdi
	case 1:
		return &g.r.Rsi
	case 2:
		return &g.r.Rdx
	case 3:
		return &g.r.R10
	case 4:
		return &g.r.R8
	}
	return &g.r.R9
}

// SetNumber changes which system call is made; -1 is none.
func (g *Registers) SetNumber(_, nr int) error {
	g.r.Orig_rax = uint64(int64(nr))
	return nil
}

// Result is what the call returns: an Errno is negative.
func (g *Registers) Result() int64 { return int64(g.r.Rax) }

// SetResult changes what it returns.
func (g *Registers) SetResult(v int64) { g.r.Rax = uint64(v) }

// Again makes a thread that has left a system call make the one of before.
func (g *Registers) Again(before *Registers) {
	*g = *before
	g.r.Rip -= 2 // the length of "syscall"
	g.r.Rax = before.r.Orig_rax
}

// resultIsFirstArgument: a call's result takes the place of its first argument.
const ResultIsFirstArgument = false

// CloneFlags are those of the call that started a thread.
func CloneFlags(g *Registers) uint64 {
	switch g.Number() {
	case unix.SYS_CLONE:
		return g.Arg(0)
	case unix.SYS_VFORK:
		return unix.CLONE_VM | unix.CLONE_VFORK
	}
	return 0
}

// StartCalls start threads and processes.
func StartCalls() []int { return []int{unix.SYS_CLONE, unix.SYS_FORK, unix.SYS_VFORK} }
