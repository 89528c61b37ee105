package trace

import (
	"errors"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
)

// Call is a system call that a thread is about to make, or has made.
type Call struct {
	Task *Task
	Reg  ptrace.Registers
	// Done: it is execve(2), and succeeded.
	Done bool
	used uint64 // bytes of the slot
}

// Handler does a system call in the thread's place, or changes it. It returns one of
// the errors below to let the thread make the call itself.
type Handler func(*Call) (int64, error)

var (
	// ErrAsIs lets the thread make the call as it is.
	ErrAsIs = errors.New("as it is")
	// ErrChanged lets it make the call with the arguments that were set.
	ErrChanged = errors.New("changed")
	// ErrAgain makes it call again: it was needed for something else.
	ErrAgain = errors.New("again")
)

// enter is at the beginning of a system call that the filter stops.
func (k *Task) enter() {
	c := &Call{Task: k}
	if c.Reg.Load(k.TID) != nil {
		return
	}
	k.saved, k.After = c.Reg, nil
	h := k.Tracer.calls[c.Reg.Number()]
	if h == nil {
		k.resume(0)
		return
	}
	v, err := h(c)
	switch {
	case err == ErrAsIs, err == ErrAgain:
		k.resume(0)
		return
	case err == ErrChanged:
		if k.After == nil {
			k.After = func(*Call) {} // arguments are put back
		}
		_ = c.Reg.Store(k.TID)
		k.resume(0)
		return
	case err != nil:
		v = -int64(ErrnoOf(err))
	}
	c.Reg.SetResult(v)
	if c.Reg.SetNumber(k.TID, -1) == nil {
		_ = c.Reg.Store(k.TID)
	}
	k.After = nil
	k.resume(0)
}

// leave is at the end of a call that was changed or that after waits for.
func (k *Task) leave() {
	after := k.After
	k.After = nil
	if after == nil {
		k.resume(0)
		return
	}
	c := &Call{Task: k}
	if c.Reg.Load(k.TID) != nil {
		return
	}
	// A call that a signal interrupted is made again, with the arguments it had.
	for i := range 6 {
		if i > 0 || !ptrace.ResultIsFirstArgument {
			c.Reg.SetArg(i, k.saved.Arg(i))
		}
	}
	after(c)
	if ptrace.ResultIsFirstArgument && restarts(c.Reg.Result()) {
		// The kernel puts the first argument back from its own copy.
		c.Reg.SetArg(0, uint64(c.Reg.Result()))
	}
	_ = c.Reg.Store(k.TID)
	k.resume(0)
}

func restarts(result int64) bool { return result <= -512 && result >= -516 }

// ErrnoOf is the number that the thread gets.
func ErrnoOf(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return unix.EIO
}

// FD is an argument that is a file descriptor.
func (c *Call) FD(i int) int { return int(int32(c.Reg.Arg(i))) }

// Flags is an argument of bits.
func (c *Call) Flags(i int) int { return int(uint32(c.Reg.Arg(i))) }

// Path reads an argument that is a path.
func (c *Call) Path(i int) (string, error) { return ptrace.ReadPath(c.Task.TID, c.Reg.Arg(i)) }

// SetPath puts a path of this machine into an argument.
func (c *Call) SetPath(i int, host string) error {
	if len(host) >= unix.PathMax {
		return unix.ENAMETOOLONG
	}
	addr, err := c.Put(append([]byte(host), 0))
	if err != nil {
		return err
	}
	c.Reg.SetArg(i, addr)
	return nil
}
