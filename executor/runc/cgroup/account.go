package cgroup

import (
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"

	"layered.build/builder/executor/sandbox"
)

// Account adds what the container's cgroups counted.
func (g *Group) Account(e *sandbox.Exit) {
	if dir := g.unified; dir != "" {
		e.OOM = counter(dir, "memory.events", "oom_kill") > 0
		e.PidsHit = counter(dir, "pids.events", "max")
		if cpu := 1000 * counter(dir, "cpu.stat", "usage_usec"); cpu > e.CPUNanos {
			e.CPUNanos, e.SystemNanos = cpu, 1000*counter(dir, "cpu.stat", "system_usec")
		}
		if peak := counter(dir, "memory.peak", ""); peak > 0 {
			e.PeakMemory = peak
		}
		read, written := deviceBytes(dir)
		e.ReadBytes, e.WriteBytes = max(e.ReadBytes, read), max(e.WriteBytes, written)
		return
	}
	if dir := g.paths["memory"]; dir != "" {
		e.OOM = counter(dir, "memory.oom_control", "oom_kill") > 0
		if peak := counter(dir, "memory.max_usage_in_bytes", ""); peak > 0 {
			e.PeakMemory = peak
		}
	}
	if dir := g.paths["pids"]; dir != "" {
		e.PidsHit = counter(dir, "pids.events", "max")
	}
}

// deviceBytes sums io.stat (v2): lines such as "8:0 rbytes=1 wbytes=2 rios=3".
func deviceBytes(dir string) (read, written int64) {
	s := readCgroup(dir, "io.stat")
	for _, f := range strings.Fields(s) {
		key, value, _ := strings.Cut(f, "=")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch key {
		case "rbytes":
			read += n
		case "wbytes":
			written += n
		}
	}
	return read, written
}

// counter reads a number from a cgroup's file: of the line that begins with key,
// or of the only line; 0 if there is none.
func counter(dir, file, key string) int64 {
	for line := range strings.Lines(readCgroup(dir, file)) {
		f := strings.Fields(line)
		if key != "" && (len(f) != 2 || f[0] != key) || len(f) == 0 {
			continue
		}
		n, _ := strconv.ParseInt(f[len(f)-1], 10, 64)
		return n
	}
	return 0
}

// readCgroup reads a cgroup's file, "" if there is none.
func readCgroup(dir, file string) string {
	s, err := cgroups.ReadFile(dir, file)
	if err != nil {
		return ""
	}
	return s
}
