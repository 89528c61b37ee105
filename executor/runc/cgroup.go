package runc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// cgroupParent is the cgroup that holds those of all containers. On v1 it is
	// below this process's own, so that what limits this process limits them.
	cgroupParent = "builder"
)

// cgroupSet is what is known of this machine's cgroups.
//
// On cgroup v2 libcontainer makes a container's cgroup and puts it there. On v1
// that takes more than 10 ms: for each of a dozen hierarchies it moves a process,
// and the kernel waits for an RCU grace period to do that. A thread that moves
// itself does not wait, and its children are born where it is. So here the thread
// that starts the container goes first, and only into the hierarchies that
// matter: "devices" always, others for a limit.
type cgroupSet struct {
	unified    bool // cgroup v2 only
	namespaced bool // containers get a cgroup namespace
	swap       bool // swap can be limited
	writable   bool // v2: containers can get cgroups
	prefix     string
	own        map[string]string // v1: directory of this process's cgroup, by hierarchy

	mu      sync.Mutex // guards devices
	devices string     // v1: the cgroup with the default device rules

	delegated func() []string // v2: the controllers of containers' cgroups
	total     *total          // what limits all containers together; nil: nothing
}

// cgroup is one container's.
type cgroup struct {
	set     *cgroupSet
	id      string          // of the container
	name    string          // of its directories
	manager cgroups.Manager // v1, with limits
	res     *cgroups.Resources
	paths   map[string]string // where the container's processes are, by hierarchy
	unified string            // v2: the directory
	devices string            // v1: the directory of the container's own device rules
}

func newCgroupSet() (*cgroupSet, error) {
	// The cgroups package keeps the first handle on the hierarchy that it opens.
	// That must not happen on a thread whose mount namespace ends.
	if f, err := cgroups.OpenFile(cgroupRoot, "cgroup.procs", os.O_RDONLY); err == nil {
		f.Close()
	}
	start, err := startTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	c := &cgroupSet{prefix: fmt.Sprintf("%d-%d-", os.Getpid(), start), unified: cgroups.IsCgroup2UnifiedMode()}
	c.delegated = sync.OnceValue(c.findControllers)
	if c.unified {
		_, err := os.Stat("/proc/self/ns/cgroup")
		c.namespaced = err == nil
		if own, err := cgroups.ParseCgroupFile("/proc/self/cgroup"); err == nil {
			c.swap = cgroups.PathExists(filepath.Join(cgroupRoot, own[""], "memory.swap.max"))
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
		mount, err := filepath.EvalSymlinks(filepath.Join(cgroupRoot, name))
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

// prepare makes the cgroups of a container. It must not be called on a private
// thread. libcontainer's own part of cfg is taken out on v1.
func (c *cgroupSet) prepare(spec *sandbox.Spec, cfg *cgroups.Cgroup) (*cgroup, error) {
	g := &cgroup{set: c, id: spec.ID, name: c.prefix + spec.ID, paths: map[string]string{}}
	if err := c.total.make(); err != nil {
		return nil, err
	}
	if spec.Limits.Parent != "" {
		g.name = ownPrefix + g.name
		if err := c.reclaimBelow(spec.Limits.Parent); err != nil {
			return nil, err
		}
	}
	if c.unified {
		return g, nil
	}
	res := *cfg.Resources
	cfg.Resources = &cgroups.Resources{Devices: res.Devices}
	// Nothing is made there (see hide). That the path is absolute spares libcontainer
	// a look through all mounts.
	cfg.Parent = "/" + cgroupParent + "-none"
	if spec.Security != dag.SecurityInsecure {
		if err := g.confineDevices(spec, res.Devices); err != nil {
			return nil, err
		}
	}
	if len(c.wanted(spec.Limits)) == 0 {
		return g, nil
	}
	if err := g.limit(spec.Limits, &res); err != nil {
		return nil, errors.Join(fmt.Errorf("apply resource limits: %w", err), g.remove())
	}
	return g, nil
}

// confineDevices chooses the cgroup that says which devices may be used (v1).
func (g *cgroup) confineDevices(spec *sandbox.Spec, rules deviceRules) error {
	if len(spec.Devices) > 0 || spec.Limits.Parent != "" {
		return g.ownDeviceCgroup(spec, rules)
	}
	dir, err := g.set.deviceCgroup(rules)
	if dir != "" {
		g.paths["devices"] = dir
	}
	return err
}

func isReadOnly(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
}

// deviceCgroup returns the cgroup with the default rules, "" if this process may
// not make one (it is in a container then, whose rules hold).
func (c *cgroupSet) deviceCgroup(rules deviceRules) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.devices != "" {
		return c.devices, nil
	}
	own, ok := c.own["devices"]
	if !ok {
		return "", errors.New("confine devices: this machine has no devices cgroup")
	}
	dir := filepath.Join(own, cgroupParent, c.prefix+"default")
	err := os.MkdirAll(dir, 0o755)
	if isReadOnly(err) {
		return "", nil
	}
	if err == nil {
		err = (&cgroupfs.DevicesGroup{}).Set(dir, &cgroups.Resources{Devices: rules})
	}
	if err != nil {
		return "", fmt.Errorf("confine devices: %w", err)
	}
	c.devices = dir
	return dir, nil
}

// limit makes cgroups in the hierarchies that the limits need. The limits are set
// later, by enforce.
func (g *cgroup) limit(l dag.Limits, res *cgroups.Resources) error {
	paths := map[string]string{}
	for _, name := range g.set.wanted(l) {
		dir, ok := g.set.total.child(name, g.name)
		if !ok {
			if dir, ok = g.set.place(name, l.Parent, g.id); !ok {
				return fmt.Errorf("this machine has no %s cgroup", name)
			}
		}
		paths[name], g.paths[name] = dir, dir
	}
	res.Devices, res.SkipDevices = nil, true
	g.res = res
	m, err := cgroupfs.NewManager(&cgroups.Cgroup{Resources: res}, paths)
	if err != nil {
		return err
	}
	g.manager = m
	return m.Apply(-1) // makes the directories; the process comes by itself
}

// join moves the calling thread into the container's cgroups.
func (g *cgroup) join() error {
	for name, dir := range g.paths {
		// "0" is the writing thread.
		if err := cgroups.WriteFile(dir, "tasks", "0"); err != nil {
			return fmt.Errorf("enter %s cgroup: %w", name, err)
		}
	}
	return nil
}

// quit moves the calling thread back.
func (g *cgroup) quit() error {
	var errs []error
	for name := range g.paths {
		errs = append(errs, cgroups.WriteFile(g.set.own[name], "tasks", "0"))
	}
	return errors.Join(errs...)
}

// enforce sets the limits. By then the container is about to execute the user's
// process: what its preparation needs (threads above all) does not count.
func (g *cgroup) enforce() error {
	if g.manager == nil {
		return nil
	}
	if err := g.manager.Set(g.res); err != nil {
		return fmt.Errorf("set resource limits: %w", err)
	}
	return nil
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

// remove deletes the container's cgroups. It must not be called on a private
// thread.
func (g *cgroup) remove() error {
	var err error
	if g.devices != "" {
		err = os.Remove(g.devices)
	}
	if g.manager == nil {
		return err
	}
	return errors.Join(err, g.manager.Destroy())
}

// mount shows the container's cgroups in its /sys, on v1.
func (g *cgroup) mount(root *rootfs, writable bool) error {
	if g.set.unified {
		return nil // in the container's cgroup namespace, by libcontainer
	}
	if err := root.fs(cgroupRoot, "tmpfs", sealed, "mode=755"); err != nil {
		return err
	}
	base := root.over[len(root.over)-1]
	for name, dir := range g.set.own {
		if own := g.paths[name]; own != "" && name != "devices" {
			dir = own
		}
		// Joint hierarchies have a link for each controller.
		mount := filepath.Base(mountOf(dir))
		target := filepath.Join(base, mount)
		if err := os.Mkdir(target, 0o755); err == nil {
			err = bindAt(dir, target, 0)
			if err != nil {
				return fmt.Errorf("mount cgroups: %w", err)
			}
		}
		if mount != name {
			_ = os.Symlink(mount, filepath.Join(base, name))
		}
	}
	attrs := uint64(sealedRO)
	if writable {
		attrs &^= unix.MOUNT_ATTR_RDONLY
	}
	return setAttrs(base, attrs)
}

// mountOf is the mount point of a v1 hierarchy that a directory is in.
func mountOf(dir string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(dir, cgroupRoot+"/"), "/")
	return filepath.Join(cgroupRoot, name)
}

// hide makes all cgroups read-only for the calling private thread, so that
// libcontainer does not make its own.
func (c *cgroupSet) hide() error {
	if c.unified {
		return nil
	}
	return setAttrs(cgroupRoot, unix.MOUNT_ATTR_RDONLY)
}
