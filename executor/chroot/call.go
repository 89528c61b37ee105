package chroot

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/ptrace"
	"layered.build/builder/executor/chroot/view"
)

// call is a system call that a thread is about to make, or has made.
type call struct {
	k   *task
	reg ptrace.Registers
	// done: it is execve(2), and succeeded.
	done bool
	used uint64 // bytes of the slot
}

// handler does a system call in the thread's place, or changes it. It returns one of
// the errors below to let the thread make the call itself.
type handler func(*call) (int64, error)

var (
	// errAsIs lets the thread make the call as it is.
	errAsIs = errors.New("as it is")
	// errChanged lets it make the call with the arguments that were set.
	errChanged = errors.New("changed")
	// errAgain makes it call again: it was needed for something else.
	errAgain = errors.New("again")
)

// enter is at the beginning of a system call that the filter stops.
func (k *task) enter() {
	c := &call{k: k}
	if c.reg.Load(k.tid) != nil {
		return
	}
	k.saved, k.after = c.reg, nil
	h := k.t.calls[c.reg.Number()]
	if h == nil {
		k.resume(0)
		return
	}
	v, err := h(c)
	switch {
	case err == errAsIs, err == errAgain:
		k.resume(0)
		return
	case err == errChanged:
		if k.after == nil {
			k.after = func(*call) {} // arguments are put back
		}
		_ = c.reg.Store(k.tid)
		k.resume(0)
		return
	case err != nil:
		v = -int64(errnoOf(err))
	}
	c.reg.SetResult(v)
	if c.reg.SetNumber(k.tid, -1) == nil {
		_ = c.reg.Store(k.tid)
	}
	k.after = nil
	k.resume(0)
}

// leave is at the end of a call that was changed or that after waits for.
func (k *task) leave() {
	after := k.after
	k.after = nil
	if after == nil {
		k.resume(0)
		return
	}
	c := &call{k: k}
	if c.reg.Load(k.tid) != nil {
		return
	}
	// A call that a signal interrupted is made again, with the arguments it had.
	for i := range 6 {
		if i > 0 || !ptrace.ResultIsFirstArgument {
			c.reg.SetArg(i, k.saved.Arg(i))
		}
	}
	after(c)
	if ptrace.ResultIsFirstArgument && restarts(c.reg.Result()) {
		// The kernel puts the first argument back from its own copy.
		c.reg.SetArg(0, uint64(c.reg.Result()))
	}
	_ = c.reg.Store(k.tid)
	k.resume(0)
}

func restarts(result int64) bool { return result <= -512 && result >= -516 }

// errnoOf is the number that the thread gets.
func errnoOf(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return unix.EIO
}

// fd is an argument that is a file descriptor.
func (c *call) fd(i int) int { return int(int32(c.reg.Arg(i))) }

func (c *call) flags(i int) int { return int(uint32(c.reg.Arg(i))) }

// path reads an argument that is a path.
func (c *call) path(i int) (string, error) { return ptrace.ReadPath(c.k.tid, c.reg.Arg(i)) }

// place resolves the path in argument i, relative to the directory dirfd.
func (c *call) place(dirfd, i int, follow bool) (view.Place, error) {
	name, err := c.path(i)
	if err != nil {
		return view.Place{}, err
	}
	return c.resolve(dirfd, name, follow)
}

func (c *call) resolve(dirfd int, name string, follow bool) (view.Place, error) {
	w, from := c.k.viewer(), ""
	if name == "" {
		return view.Place{}, unix.ENOENT
	}
	if name[0] != '/' {
		var err error
		if from, err = w.Directory(dirfd); err != nil {
			return view.Place{}, err
		}
	}
	return w.Resolve(from, name, follow)
}

// object is place that also takes descriptors (AT_EMPTY_PATH).
func (c *call) object(dirfd, i, flags int) (view.Place, error) {
	follow := flags&unix.AT_SYMLINK_NOFOLLOW == 0
	if flags&unix.AT_EMPTY_PATH == 0 {
		return c.place(dirfd, i, follow)
	}
	name := ""
	if c.reg.Arg(i) != 0 {
		var err error
		if name, err = c.path(i); err != nil {
			return view.Place{}, err
		}
	}
	if name != "" {
		return c.resolve(dirfd, name, follow)
	}
	return c.open(dirfd)
}

// open names an open file so that following the name leads to it.
func (c *call) open(fd int) (view.Place, error) {
	w := c.k.viewer()
	if fd == unix.AT_FDCWD {
		dir, err := w.Directory(fd)
		if err != nil {
			return view.Place{}, err
		}
		return w.View.At(dir), nil
	}
	p, err := w.Descriptor(fd)
	if err != nil {
		return view.Place{}, err
	}
	p.Host = descriptorPath(c.k.pid, fd)
	return p, nil
}

func descriptorPath(pid, fd int) string { return "/proc/" + itoa(pid) + "/fd/" + itoa(fd) }

// setPath puts a path of this machine into an argument.
func (c *call) setPath(i int, host string) error {
	if len(host) >= unix.PathMax {
		return unix.ENAMETOOLONG
	}
	addr, err := c.put(append([]byte(host), 0))
	if err != nil {
		return err
	}
	c.reg.SetArg(i, addr)
	return nil
}

// put writes data where the thread's memory has room for it. The error is errAgain
// if the room had to be made first.
func (c *call) put(data []byte) (uint64, error) {
	k := c.k
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
			return 0, errAgain
		}
		k.takeSlot()
	}
	addr := k.slot + c.used
	c.used += size
	return addr, ptrace.WriteMemory(k.tid, addr, data)
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
func (c *call) mapMemory(size uint64) (uint64, error) {
	k := c.k
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
	if err := g.Store(k.tid); err != nil {
		return 0, unix.ESRCH
	}
	return uint64(addr), nil
}

// inject makes the thread, which is at the beginning of a call, make another one.
// Afterwards it is at the end of that.
func (k *task) inject(g *ptrace.Registers, nr int) (int64, error) {
	if g.SetNumber(k.tid, nr) != nil || g.Store(k.tid) != nil || unix.PtraceSyscall(k.tid, 0) != nil {
		return 0, unix.ESRCH
	}
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(k.tid, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !ws.Stopped() {
			if err == nil {
				k.t.event(k.tid, ws)
			}
			return 0, unix.ESRCH
		}
		if ws.StopSignal() == unix.SIGTRAP|0x80 {
			break
		}
		// Nothing else stops a thread between the two ends of a call but its death.
		_ = unix.PtraceSyscall(k.tid, 0)
	}
	if err := g.Load(k.tid); err != nil {
		return 0, unix.ESRCH
	}
	if v := g.Result(); v >= 0 || v < -4095 {
		return v, nil
	}
	return 0, unix.Errno(-g.Result())
}

// putLarge is put for more than a slot holds; the thread calls again in between.
func (c *call) putLarge(data []byte) (uint64, error) {
	k := c.k
	if k.large.size >= uint64(len(data)) && k.large.size > 0 {
		addr := k.large.addr
		k.large = largeMemory{}
		return addr, ptrace.WriteMemory(k.tid, addr, data)
	}
	size := (uint64(len(data)) + ptrace.PageSize - 1) &^ (ptrace.PageSize - 1)
	addr, err := c.mapMemory(size)
	if err != nil {
		return 0, err
	}
	k.large = largeMemory{addr, size}
	return 0, errAgain
}

// largeMemory is what was mapped for one call.
type largeMemory struct{ addr, size uint64 }

func pointers(list []uint64) []byte {
	out := make([]byte, 0, 8*len(list)+8)
	for _, p := range list {
		out = binary.NativeEndian.AppendUint64(out, p)
	}
	return binary.NativeEndian.AppendUint64(out, 0)
}
