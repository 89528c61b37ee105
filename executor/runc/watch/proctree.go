package watch

import (
	"fmt"
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
	memory  int64 // private memory, in bytes
}

// processTree lists a process and all that descend from it. Processes of a
// container whose parent ended are children of its first one. It stops when there are
// more threads than most, unless that is 0.
func processTree(root int, most int64) []process {
	var out []process
	var threads int64
	queue := []int{root}
	for len(queue) > 0 && (most == 0 || threads <= most) {
		pid := queue[0]
		queue = queue[1:]
		dir := "/proc/" + strconv.Itoa(pid)
		tasks, err := readNames(dir + "/task")
		if err != nil {
			continue
		}
		threads += int64(len(tasks))
		out = append(out, process{pid: pid, threads: len(tasks), memory: privateMemory(dir)})
		for _, t := range tasks {
			b, _ := os.ReadFile(dir + "/task/" + t + "/children")
			for _, f := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(f); err == nil {
					queue = append(queue, child)
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
