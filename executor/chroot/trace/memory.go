package trace

import (
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
)

// memory is an address space; threads share it.
type memory struct {
	base uint64 // where slots are
	next uint64
	free []uint64 // of threads that have ended
}

// Paths that are rewritten lie in slots, one a thread, not on stacks: those of some
// languages are small.
const (
	slotSize  = 4 * ptrace.PageSize
	slotCount = 64
)

// Put writes data where the thread's memory has room for it. The error is ErrAgain
// if the room had to be made first.
func (c *Call) Put(data []byte) (uint64, error) {
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

func (k *Task) takeSlot() {
	if n := len(k.mem.free); n > 0 {
		k.slot, k.mem.free = k.mem.free[n-1], k.mem.free[:n-1]
		return
	}
	k.slot = k.mem.base + k.mem.next*slotSize
	k.mem.next++
}

// mapMemory makes the thread call mmap(2) first, and then the call again.
func (c *Call) mapMemory(size uint64) (uint64, error) {
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
func (k *Task) inject(g *ptrace.Registers, nr int) (int64, error) {
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
func (c *Call) putLarge(data []byte) (uint64, error) {
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
