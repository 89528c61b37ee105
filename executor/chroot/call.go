package chroot

import (
	"errors"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
)

// traced is a system call that a thread is about to make, or has made.
type traced struct {
	Task *task
	Reg  ptrace.Registers
	// Done: it is execve(2), and succeeded.
	Done bool
	used uint64 // bytes of the slot
}

// handler does a system call in the thread's place, or changes it. It returns one of
// the errors below to let the thread make the call itself.
type handler func(*traced) (int64, error)

var (
	// ErrAsIs lets the thread make the call as it is.
	ErrAsIs = errors.New("as it is")
	// ErrChanged lets it make the call with the arguments that were set.
	ErrChanged = errors.New("changed")
	// ErrAgain makes it call again: it was needed for something else.
	ErrAgain = errors.New("again")
)

// enter is at the beginning of a system call that the filter stops.
func (k *task) enter() {
	c := &traced{Task: k}
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
			k.After = func(*traced) {} // arguments are put back
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
func (k *task) leave() {
	after := k.After
	k.After = nil
	if after == nil {
		k.resume(0)
		return
	}
	c := &traced{Task: k}
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
func (c *traced) FD(i int) int { return int(int32(c.Reg.Arg(i))) }

// Flags is an argument of bits.
func (c *traced) Flags(i int) int { return int(uint32(c.Reg.Arg(i))) }

// Path reads an argument that is a path.
func (c *traced) Path(i int) (string, error) { return ptrace.ReadPath(c.Task.TID, c.Reg.Arg(i)) }

// SetPath puts a path of this machine into an argument.
func (c *traced) SetPath(i int, host string) error {
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

// Put writes data where the thread's memory has room for it. The error is ErrAgain
// if the room had to be made first.
func (c *traced) Put(data []byte) (uint64, error) {
	k := c.Task
	size := (uint64(len(data)) + 15) &^ 15
	if c.used+size > slotSize {
		return c.putLarge(data)
	}
	if k.slot == 0 {
		if len(k.mem.free) == 0 && (k.mem.base == 0 || k.mem.next >= slotCount) {
			addr, err := c.mapMemory(slotSize * slotCount)
			if err != nil {
				return 0, err
			}
			k.mem.base, k.mem.next = addr, 0
			k.takeSlot()
			return 0, ErrAgain
		}
		k.takeSlot()
	}
	addr := k.slot + c.used
	c.used += size
	return addr, ptrace.WriteMemory(k.TID, addr, data)
}

func (k *task) takeSlot() {
	if n := len(k.mem.free); n > 0 {
		k.slot, k.mem.free = k.mem.free[n-1], k.mem.free[:n-1]
		return
	}
	k.slot = k.mem.base + k.mem.next*slotSize
	k.mem.next++
}

// mapMemory makes the thread call mmap(2) first, and then the call again.
func (c *traced) mapMemory(size uint64) (uint64, error) {
	k := c.Task
	before := k.saved
	g := before
	for i, v := range []uint64{0, size, unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS, ^uint64(0), 0} {
		g.SetArg(i, v)
	}
	addr, err := k.inject(&g, unix.SYS_MMAP)
	if err != nil {
		return 0, err
	}
	g.Again(&before)
	if err := g.Store(k.TID); err != nil {
		return 0, unix.ESRCH
	}
	return uint64(addr), nil
}

// inject makes the thread, which is at the beginning of a call, make another one.
// Afterwards it is at the end of that.
func (k *task) inject(g *ptrace.Registers, nr int) (int64, error) {
	if g.SetNumber(k.TID, nr) != nil || g.Store(k.TID) != nil || unix.PtraceSyscall(k.TID, 0) != nil {
		return 0, unix.ESRCH
	}
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(k.TID, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !ws.Stopped() {
			if err == nil {
				k.Tracer.event(k.TID, ws)
			}
			return 0, unix.ESRCH
		}
		if ws.StopSignal() == unix.SIGTRAP|0x80 {
			break
		}
		// Nothing else stops a thread between the two ends of a call but its death.
		_ = unix.PtraceSyscall(k.TID, 0)
	}
	if err := g.Load(k.TID); err != nil {
		return 0, unix.ESRCH
	}
	if v := g.Result(); v >= 0 || v < -4095 {
		return v, nil
	}
	return 0, unix.Errno(-g.Result())
}

// putLarge is Put for more than a slot holds; the thread calls again in between.
func (c *traced) putLarge(data []byte) (uint64, error) {
	k := c.Task
	if k.large.size >= uint64(len(data)) && k.large.size > 0 {
		addr := k.large.addr
		k.large = largeMemory{}
		return addr, ptrace.WriteMemory(k.TID, addr, data)
	}
	size := (uint64(len(data)) + ptrace.PageSize - 1) &^ (ptrace.PageSize - 1)
	addr, err := c.mapMemory(size)
	if err != nil {
		return 0, err
	}
	k.large = largeMemory{addr, size}
	return 0, ErrAgain
}

// largeMemory is what was mapped for one call.
type largeMemory struct{ addr, size uint64 }
