package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc/cgroup"
	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/executor/runc/network"
	"layered.build/builder/executor/runc/thread"
	"layered.build/builder/executor/runc/userns"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/owner"
)

// Options configure a Sandbox. Only StateDir is required.
type Options struct {
	// StateDir is an existing directory that serves as a mount point; nothing is
	// ever written to it. Several processes may share it.
	StateDir string
	// ResolvConf is this machine's resolv.conf; "" is /etc/resolv.conf.
	ResolvConf string
	// Total limits all processes together, beside the limits of each. Only
	// Memory, CPUs and Parent count.
	Total dag.Limits
	// UserNamespaces gives every process a user namespace of its own, in which its
	// ids are not those of this machine, where that works. Store is the folder of the
	// snapshots, whose ids are mapped.
	UserNamespaces bool
	Store          string
}

// Sandbox runs processes in libcontainer containers. It is safe for concurrent
// use.
type Sandbox struct {
	opts    Options
	policy  *confine.Policy
	cgroups *cgroup.Set
	noIDMap atomic.Bool    // ids of a file system could not be mapped
	closing sync.WaitGroup // what is closed behind the runs
	userns  bool           // in a user namespace that is not the machine's first
	hasIPv6 func() bool    // asked once
	// emulated: owners and credentials cannot be changed, and are emulated.
	emulated bool
}

var _ sandbox.Sandbox = (*Sandbox)(nil)

// New returns a sandbox.
func New(opts Options) (*Sandbox, error) {
	if opts.ResolvConf == "" {
		opts.ResolvConf = "/etc/resolv.conf"
	}
	dir, err := filepath.Abs(opts.StateDir)
	if err != nil {
		return nil, fmt.Errorf("sandbox state directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox state directory: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("sandbox state directory: %w", err)
	}
	opts.StateDir = dir
	if opts.UserNamespaces {
		// The container's root, who is nobody here, must get to its root file system.
		if err := os.MkdirAll(usersDir, 0o711); err != nil {
			return nil, fmt.Errorf("sandbox state directory: %w", err)
		}
	}
	// libcontainer warns through the program's one logger of things that are as
	// they should be here.
	logrus.SetLevel(logrus.ErrorLevel)
	cg, err := cgroup.New(cgroup.Options{Total: opts.Total})
	if err != nil {
		return nil, err
	}
	return &Sandbox{
		opts: opts, policy: confine.NewPolicy("/sys"), cgroups: cg,
		hasIPv6: sync.OnceValue(network.HasIPv6), userns: rootless.InUserNamespace(), emulated: owner.Emulated(),
	}, nil
}

// usersDir is StateDir for runs with a user namespace of their own.
const usersDir = "/run/builder"

// firstID is the first of the ids on this machine that containers have: in the part
// of the range that systemd's conventions leave to nobody.
const firstID = 1879048192

// Reclaim removes what killed processes left behind: cgroups, and processes in
// them that have outlived the one that started them.
func (s *Sandbox) Reclaim(ctx context.Context) error { return s.cgroups.Reclaim(ctx) }

// Close removes what the sandbox kept between runs. No run may be in progress.
func (s *Sandbox) Close() error {
	s.closing.Wait()
	return s.cgroups.Close()
}

// Run implements sandbox.Sandbox.
func (s *Sandbox) Run(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
	if err := check(spec); err != nil {
		return sandbox.Exit{}, err
	}
	if ctx.Err() != nil {
		return sandbox.Exit{}, context.Cause(ctx)
	}
	if s.ownUsers(spec) {
		exit, err := s.run(ctx, spec, true)
		if !errors.Is(err, userns.ErrNoIDMap) {
			return exit, err
		}
		s.noIDMap.Store(true) // nothing was started yet
	}
	return s.run(ctx, spec, false)
}

// ownUsers reports whether a run gets a user namespace of its own: where that was
// asked for and works, unless the process is to have the rights of this machine's
// root or its network.
func (s *Sandbox) ownUsers(spec *sandbox.Spec) bool {
	return s.opts.UserNamespaces && !s.userns && !s.noIDMap.Load() &&
		spec.Security != dag.SecurityInsecure && network.Own(spec.Network)
}

func (s *Sandbox) run(ctx context.Context, spec *sandbox.Spec, ownUsers bool) (sandbox.Exit, error) {
	r := &run{s: s, ipv6: network.Own(spec.Network) && s.hasIPv6(), dir: s.opts.StateDir, ownUsers: ownUsers}
	r.spec, r.rest = s.limited(spec)
	spec = r.spec
	namespaces := thread.AllButNetwork
	switch {
	case ownUsers:
		namespaces, r.dir = thread.MountsOnly, usersDir
	case network.Own(spec.Network):
		namespaces = thread.AllNamespaces
	}
	var compiling sync.WaitGroup // beside the start of the first container
	compiling.Go(s.policy.Compile)
	defer compiling.Wait()
	var exit sandbox.Exit
	err := thread.Run(namespaces, func() error {
		if err := r.configure(); err != nil {
			return err
		}
		var err error
		exit, err = r.do(ctx)
		return errors.Join(err, r.close())
	})
	if r.net != nil {
		r.net.Account(&exit)
	}
	if r.cgroup != nil {
		err = errors.Join(err, r.cgroup.Remove())
	}
	if ctx.Err() != nil {
		return exit, context.Cause(ctx)
	}
	return exit, err
}

// check refuses specs that make no sense, before anything is done.
func check(spec *sandbox.Spec) error {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return errors.New("run container: no command")
	}
	if spec.ID == "" {
		return errors.New("run container: no id")
	}
	for _, m := range spec.Mounts {
		if !filepath.IsAbs(m.Dest) || filepath.Clean(m.Dest) == "/" {
			return fmt.Errorf("run container: mount destination %q is not an absolute path below /", m.Dest)
		}
	}
	if err := checkDevices(spec.Devices); err != nil {
		return fmt.Errorf("run container: %w", err)
	}
	if !spec.Network.Valid() {
		return fmt.Errorf("run container: unknown network %q", spec.Network)
	}
	if len(spec.NetworkAllow) > 0 && !network.Own(spec.Network) {
		return fmt.Errorf("run container: the allowed hosts of network %q cannot be limited", spec.Network)
	}
	return nil
}

// privateTmpfs covers the state directory, for this thread only.
func privateTmpfs(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711"); err != nil {
		return fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	for _, d := range []string{"root", "state", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o711); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
	}
	return nil
}

// checkDevices refuses places that are not in /dev.
func checkDevices(devices []sandbox.Device) error {
	for _, d := range devices {
		if filepath.Clean(d.Path) != d.Path || !strings.HasPrefix(d.Path, "/dev/") {
			return fmt.Errorf("device %s: its place must be below /dev", d.Path)
		}
	}
	return nil
}
