// Package kernel does what Linux would do for a step that had a root, mounts, ids and
// devices of its own: it answers the system calls at which package trace stops the
// step. Paths are resolved in its view, owners and modes are recorded on the files
// (package owner), credentials in a table (package fakeid).
package kernel

import (
	"os"

	"layered.build/builder/executor/chroot/program"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/chroot/view"
)

// Kernel does what Linux would do for a step that had a root, mounts and ids of its own.
// It belongs to the thread of the tracer.
type Kernel struct {
	view     view.View
	programs *program.Shadows
	// uid and gid are this process's, which stand for root's.
	uid, gid int
	hostname string
}

// Options say what a step is to see.
type Options struct {
	// View are its files.
	View view.View
	// Programs is a directory for copies of programs, which must be executable in it.
	Programs string
	// Hostname is the machine's name.
	Hostname string
}

// New returns the kernel of a step.
func New(o Options) *Kernel {
	return &Kernel{view: o.View, programs: program.NewShadows(o.Programs), uid: os.Getuid(), gid: os.Getgid(), hostname: o.Hostname}
}

// Handlers answer the system calls that are to stop, by their numbers.
func (k *Kernel) Handlers() map[int]trace.Handler {
	out := map[int]trace.Handler{}
	for nr, a := range answers() {
		out[nr] = func(c *trace.Call) (int64, error) { return a(&call{Call: c, kernel: k}) }
	}
	return out
}

// call is a system call that a kernel answers.
type call struct {
	*trace.Call
	kernel *Kernel
}

// answer is what a kernel has of a handler.
type answer func(*call) (int64, error)
