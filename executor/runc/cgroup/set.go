package cgroup

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const (
	mountPoint = "/sys/fs/cgroup"
	// parentName is the cgroup that holds those of all containers. On v1 it is
	// below this process's own, so that what limits this process limits them.
	parentName = "builder"
)

// Set is what is known of this machine's cgroups, and what all containers share of
// them. It is safe for concurrent use.
//
// On cgroup v2 libcontainer makes a container's cgroup and puts it there. On v1
// that takes more than 10 ms: for each of a dozen hierarchies it moves a process,
// and the kernel waits for an RCU grace period to do that. A thread that moves
// itself does not wait, and its children are born where it is. So here the thread
// that starts the container goes first, and only into the hierarchies that
// matter: "devices" always, others for a limit.
type Set struct {
	unified    bool // cgroup v2 only
	namespaced bool // containers get a cgroup namespace
	swap       bool // swap can be limited
	writable   bool // v2: containers can get cgroups
	prefix     string
	own        map[string]string // v1: directory of this process's cgroup, by hierarchy

	mu      sync.Mutex        // guards what follows
	devices string            // v1: the cgroup with the default device rules
	marks   map[string]string // cgroups that tell of parents of the user's

	delegated func() []string // v2: the controllers of containers' cgroups
	total     *total          // what limits all containers together; nil: nothing
	rest      dag.Limits      // what of that no cgroup keeps: each container gets it
}

// Options say what the containers of a set may use together.
type Options struct {
	// Total limits all containers together, beside the limits of each. Only Memory,
	// CPUs and Parent count.
	Total dag.Limits
	// Bare: no cgroup keeps a limit, as where this process may make none.
	Bare bool
}

// New looks at this machine's cgroups. The set has to be closed.
func New(opts Options) (*Set, error) {
	c, err := find()
	if err != nil {
		return nil, err
	}
	if opts.Bare {
		c.delegated = func() []string { return nil }
		for _, h := range hierarchies() {
			delete(c.own, h)
		}
	}
	held, rest := c.Split(dag.Limits{Memory: opts.Total.Memory, CPUs: opts.Total.CPUs, Parent: opts.Total.Parent})
	c.total, c.rest = c.newTotal(held), rest
	return c, nil
}

// find is New without limits.
func find() (*Set, error) {
	// The cgroups package keeps the first handle on the hierarchy that it opens.
	// That must not happen on a thread whose mount namespace ends.
	if f, err := cgroups.OpenFile(mountPoint, "cgroup.procs", os.O_RDONLY); err == nil {
		f.Close()
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	var serial [3]byte // tells the sets of one process apart
	rand.Read(serial[:])
	c := &Set{marks: map[string]string{}, prefix: fmt.Sprintf("%d-%d-%x-", os.Getpid(), start, serial), unified: cgroups.IsCgroup2UnifiedMode()}
	c.delegated = sync.OnceValue(c.findControllers)
	if c.unified {
		_, err := os.Stat("/proc/self/ns/cgroup")
		c.namespaced = err == nil
		if own, err := cgroups.ParseCgroupFile("/proc/self/cgroup"); err == nil {
			c.swap = cgroups.PathExists(filepath.Join(mountPoint, own[""], "memory.swap.max"))
		}
		if parents := c.parents(); len(parents) > 0 {
			c.writable = os.MkdirAll(parents[0], 0o755) == nil && unix.Access(parents[0], unix.W_OK) == nil
		}
		return c, nil
	}
	// On v1 a cgroup namespace fails to mount hierarchies with unusual sets of
	// controllers; BuildKit leaves it out there for the same reason.
	c.own, err = ownCgroups()
	c.swap = err == nil && cgroups.PathExists(filepath.Join(c.own["memory"], "memory.memsw.limit_in_bytes"))
	return c, err
}

// ownCgroups finds this process's directory in every v1 hierarchy, by the name of
// the hierarchy's mount point ("cpu,cpuacct").
func ownCgroups() (map[string]string, error) {
	byController, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own cgroups: %w", err)
	}
	out := map[string]string{}
	for controller, path := range byController {
		name := strings.TrimPrefix(controller, "name=")
		if name == "" {
			continue // the v2 part of a hybrid set
		}
		mount, err := filepath.EvalSymlinks(filepath.Join(mountPoint, name))
		if err != nil {
			continue // not mounted
		}
		dir := filepath.Join(mount, path)
		if _, err := os.Stat(dir); err != nil {
			dir = mount // mounted from inside a container: the path is the host's
		}
		out[name] = dir
	}
	return out, nil
}

// Unified reports whether there is cgroup v2 only.
func (c *Set) Unified() bool { return c.unified }

// Namespaced reports whether containers get a cgroup namespace.
func (c *Set) Namespaced() bool { return c.namespaced }

// Delegates reports whether libcontainer makes the containers' cgroups (v2). If not,
// a container has those that it is started in.
func (c *Set) Delegates() bool { return c.unified && c.writable }

// Name is what the cgroups of the container with an id are called.
func (c *Set) Name(id string) string { return c.prefix + id }

// Path is where libcontainer makes a container's cgroup, in its form; "" where it
// makes none.
func (c *Set) Path(spec *sandbox.Spec) string {
	if !c.Delegates() {
		return ""
	}
	return c.unifiedPath(spec.Limits.Parent, spec.ID)
}

// Close removes what the set kept between containers, of which none may be left.
func (c *Set) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.total.remove()
	if c.devices != "" {
		err = errors.Join(err, cgroups.RemovePath(c.devices))
		c.devices = ""
	}
	for parent, dir := range c.marks {
		err = errors.Join(err, cgroups.RemovePath(dir))
		delete(c.marks, parent)
	}
	if err != nil {
		return fmt.Errorf("remove cgroups: %w", err)
	}
	return nil
}
