package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"
)

// Reclaim removes what killed processes left behind: cgroups, and processes in
// them that have outlived the one that started them.
func (c *Set) Reclaim(ctx context.Context) error {
	var errs []error
	for _, parent := range c.parents() {
		entries, err := os.ReadDir(parent)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reclaim cgroups: %w", err)
		}
		for _, e := range entries {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if e.IsDir() && abandoned(e.Name()) {
				errs = append(errs, c.reclaimOwn(parent, e.Name()))
			}
		}
	}
	return errors.Join(errs...)
}

// reclaimOwn removes a cgroup of a dead process, and if it tells of a parent of the user's,
// what is below that.
func (c *Set) reclaimOwn(dir, name string) error {
	if parent, ok := marked(name); ok {
		if err := c.reclaimBelow(parent); err != nil {
			return err
		}
	}
	return reclaim(filepath.Join(dir, name))
}

// parents are the directories that hold containers' cgroups.
func (c *Set) parents() []string {
	if c.unified {
		own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
		if err != nil {
			return nil
		}
		// As fs2 does: below this process's parent, since its own cgroup has
		// processes.
		return []string{filepath.Join(fs2.UnifiedMountpoint, filepath.Dir(own[""]), parentName)}
	}
	var out []string
	for _, dir := range c.own {
		out = append(out, filepath.Join(dir, parentName))
	}
	return out
}

// abandoned tells by a cgroup's name ("<pid>-<start time>-…") whether the
// process that made it is gone.
func abandoned(name string) bool {
	f := strings.SplitN(name, "-", 3)
	if len(f) != 3 {
		return false
	}
	pid, err1 := strconv.Atoi(f[0])
	start, err2 := strconv.ParseUint(f[1], 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	now, err := startTime(pid)
	return err != nil || now != start
}

func reclaim(dir string) error {
	pids, err := cgroups.GetAllPids(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reclaim cgroup: %w", err)
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill abandoned process %d: %w", pid, err)
		}
	}
	if err := cgroups.RemovePath(dir); err != nil {
		return fmt.Errorf("reclaim cgroup: %w", err)
	}
	return nil
}

// startTime returns when a process started, in clock ticks since boot.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read start time: %w", err)
	}
	// Field 2 is in parentheses and may hold anything; field 22 is wanted.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 {
		return 0, fmt.Errorf("read start time of %d: short stat", pid)
	}
	return strconv.ParseUint(f[19], 10, 64)
}
