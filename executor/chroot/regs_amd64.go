package chroot

import "golang.org/x/sys/unix"

// registers are those of a thread that is stopped at a system call.
type registers struct{ r unix.PtraceRegs }

func (g *registers) load(tid int) error  { return unix.PtraceGetRegs(tid, &g.r) }
func (g *registers) store(tid int) error { return unix.PtraceSetRegs(tid, &g.r) }

func (g *registers) number() int { return int(int32(g.r.Orig_rax)) }

func (g *registers) arg(i int) uint64 { return *g.argument(i) }

func (g *registers) setArg(i int, v uint64) { *g.argument(i) = v }

func (g *registers) argument(i int) *uint64 {
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

// setNumber changes which system call is made; -1 is none.
func (g *registers) setNumber(_, nr int) error {
	g.r.Orig_rax = uint64(int64(nr))
	return nil
}

func (g *registers) result() int64     { return int64(g.r.Rax) }
func (g *registers) setResult(v int64) { g.r.Rax = uint64(v) }

// again makes a thread that has left a system call make the one of before.
func (g *registers) again(before *registers) {
	*g = *before
	g.r.Rip -= 2 // the length of "syscall"
	g.r.Rax = before.r.Orig_rax
}

// resultIsFirstArgument: a call's result takes the place of its first argument.
const resultIsFirstArgument = false

// cloneFlags are those of the call that started a thread.
func cloneFlags(g *registers) uint64 {
	switch g.number() {
	case unix.SYS_CLONE:
		return g.arg(0)
	case unix.SYS_VFORK:
		return unix.CLONE_VM | unix.CLONE_VFORK
	}
	return 0
}

// startCalls start threads and processes.
func startCalls() []int { return []int{unix.SYS_CLONE, unix.SYS_FORK, unix.SYS_VFORK} }
