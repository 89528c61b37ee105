package watch

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
)

// Used is what a container's first process has used already when it is about to
// execute the user's program.
type Used struct {
	cpu, user time.Duration
	memory    int64
}

// UsedSoFar asks what a process has used.
func UsedSoFar(pid int) Used {
	// See clock_getcpuclockid(3): the clocks of another process.
	return Used{cpu: cpuClock(pid, 2), user: cpuClock(pid, 1), memory: peakOf(pid)}
}

func cpuClock(pid int, kind int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|kind, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// peakOf is the most memory that a process has had, in bytes.
func peakOf(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	if f := strings.Fields(rest); len(f) > 0 {
		n, _ := strconv.ParseInt(f[0], 10, 64)
		return n << 10
	}
	return 0
}

// Usage is what the container used: what the kernel counted of its first process
// and of those that it waited for, without what it had used before, and what was seen.
// The looking must be finished.
func (w *Watcher) Usage(before Used, state *os.ProcessState) sandbox.Usage {
	cpu := state.UserTime() + state.SystemTime()
	u := sandbox.Usage{
		CPUNanos: int64(max(0, cpu-before.cpu)), SystemNanos: int64(max(0, state.SystemTime()-(before.cpu-before.user))),
		PeakMemory: w.memory, Processes: w.processes,
	}
	u.SystemNanos = min(u.SystemNanos, u.CPUNanos)
	if ru, ok := state.SysUsage().(*syscall.Rusage); ok {
		// Of the largest process, the preparation of the container among them, which
		// needs a little more until the program is executed.
		if largest := ru.Maxrss << 10; largest > before.memory*5/4 || u.PeakMemory == 0 {
			u.PeakMemory = max(u.PeakMemory, largest)
		}
		// Blocks of 512 bytes, whatever the file system's are.
		u.ReadBytes, u.WriteBytes = ru.Inblock<<9, ru.Oublock<<9
	}
	return u
}
