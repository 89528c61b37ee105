package chroot

import (
	"os"

	"layered.build/builder/executor/chroot/program"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/chroot/view"
)

// kernel does what Linux would do for a step that had a root, mounts and ids of its own.
// It belongs to the thread of the tracer.
type kernel struct {
	view     view.View
	programs *program.Shadows
	// uid and gid are this process's, which stand for root's.
	uid, gid int
	hostname string
}

// kernelOptions say what a step is to see.
type kernelOptions struct {
	// View are its files.
	View view.View
	// Programs is a directory for copies of programs, which must be executable in it.
	Programs string
	// Hostname is the machine's name.
	Hostname string
}

// newKernel returns the kernel of a step.
func newKernel(o kernelOptions) *kernel {
	return &kernel{view: o.View, programs: program.NewShadows(o.Programs), uid: os.Getuid(), gid: os.Getgid(), hostname: o.Hostname}
}

// Handlers answer the system calls that are to stop, by their numbers.
func (k *kernel) Handlers() map[int]trace.Handler {
	out := map[int]trace.Handler{}
	for nr, a := range answers() {
		out[nr] = func(c *trace.Call) (int64, error) { return a(&call{Call: c, kernel: k}) }
	}
	return out
}

// call is a system call that a kernel answers.
type call struct {
	*trace.Call
	kernel *kernel
}

// answer is what a kernel has of a handler.
type answer func(*call) (int64, error)
