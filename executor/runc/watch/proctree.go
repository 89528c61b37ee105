package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is what is known of a running process.
type process struct {
	pid     int
	threads int
	memory  int64 // private memory, in bytes; 0 if it is that of its parent
}

// processTree lists a process and all that descend from it. Processes of a
// container whose parent ended are children of its first one. It stops when there are
// more threads than most, unless that is 0.
func processTree(root int, most int64) []process {
	var out []process
	var threads int64
	type born struct{ pid, parent int }
	held := map[int]int64{} // private memory, whosever it is
	queue := []born{{root, 0}}
	for len(queue) > 0 && (most == 0 || threads <= most) {
		pid, parent := queue[0].pid, queue[0].parent
		queue = queue[1:]
		dir := "/proc/" + strconv.Itoa(pid)
		tasks, err := readNames(dir + "/task")
		if err != nil {
			continue
		}
		threads += int64(len(tasks))
		held[pid] = privateMemory(dir)
		p := process{pid: pid, threads: len(tasks), memory: held[pid]}
		if above, ok := held[parent]; ok && p.memory > 0 && (p.memory == above || sameMemory(pid, parent)) {
			p.memory = 0
		}
		out = append(out, p)
		for _, t := range tasks {
			b, _ := os.ReadFile(dir + "/task/" + t + "/children")
			for _, f := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(f); err == nil {
					queue = append(queue, born{child, pid})
				}
			}
		}
	}
	return out
}

// Executable names the file that a process executes, "" if it cannot be known.
func Executable(pid int) string {
	var st unix.Stat_t
	if unix.Stat("/proc/"+strconv.Itoa(pid)+"/exe", &st) != nil {
		return ""
	}
	return fmt.Sprint(st.Dev, ":", st.Ino)
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// privateMemory is the memory of a process that is its own: what it has in memory
// less what it may share with others (files, shared memory).
func privateMemory(dir string) int64 {
	b, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 3 {
		return 0
	}
	resident, err1 := strconv.ParseInt(f[1], 10, 64)
	shared, err2 := strconv.ParseInt(f[2], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return max(0, resident-shared) * int64(os.Getpagesize())
}

// sameMemory reports whether two processes have one memory: a child has that of its parent
// from vfork(2) until it executes something. False if that cannot be known.
func sameMemory(a, b int) bool {
	const kcmpVM = 1
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	return errno == 0 && r == 0
}

// share is what processes hold of private memory, where those that fork(2) made count what
// none has changed once. ok is false if the kernel does not tell. It takes the kernel
// some time.
func share(tree []process) (shares []int64, ok bool) {
	for _, p := range tree {
		n := int64(0)
		if p.memory > 0 {
			if n, ok = proportional("/proc/" + strconv.Itoa(p.pid)); !ok {
				return nil, false
			}
		}
		shares = append(shares, n)
	}
	return shares, true
}

// proportional is a process's share of the private memory that it has.
func proportional(dir string) (int64, bool) {
	b, err := os.ReadFile(filepath.Join(dir, "smaps_rollup"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		_, err := os.Lstat(dir)
		return 0, errors.Is(err, fs.ErrNotExist) // it has ended
	}
	_, rest, ok := strings.Cut(string(b), "\nPss_Anon:")
	if f := strings.Fields(rest); err == nil && ok && len(f) > 0 {
		n, err := strconv.ParseInt(f[0], 10, 64)
		return n << 10, err == nil
	}
	return 0, false
}

// inner returns a process's number in the container, and its short name.
func inner(pid int) (int, string) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, ""
	}
	n, name := 0, ""
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "Name":
			name = strings.TrimSpace(value)
		case "NSpid":
			// First comes the number here, then that in the container.
			if f := strings.Fields(value); len(f) > 1 {
				n, _ = strconv.Atoi(f[1])
			}
			return n, name
		}
	}
	return n, name
}
