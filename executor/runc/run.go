package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/emulate"
	"layered.build/builder/executor/runc/cgroup"
	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/executor/runc/network"
	"layered.build/builder/executor/runc/rootfs"
	"layered.build/builder/executor/runc/userns"
	"layered.build/builder/executor/runc/watch"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
)

// run is one Run, on its private thread.
type run struct {
	s    *Sandbox
	spec *sandbox.Spec
	dir  string     // the private tmpfs
	ipv6 bool       // the machine has it, which the thread in its namespace cannot see
	rest dag.Limits // that no cgroup keeps
	// preparing is the executable of the container's first process before the user's;
	// "" if nobody asks.
	preparing string

	cfg       *configs.Config
	root      *rootfs.Root
	net       *network.Network
	cgroup    *cgroup.Group
	watch     *watch.Watcher
	before    watch.Used
	events    *os.File // lack of memory; may be nil
	loader    *confine.Loader
	emulation *emulate.Supervisor // nil unless the sandbox emulates
	container *libcontainer.Container
	ownUsers  bool              // the run gets a user namespace of its own
	users     *userns.Namespace // then
	mapped    *userns.Dirs
	closers   []*os.File
}

func (r *run) path(elem ...string) string { return filepath.Join(append([]string{r.dir}, elem...)...) }

// configure prepares the container's configuration and cgroups, on the private thread,
// whose working directory is its own: that of the process may not exist any more, and
// libcontainer asks for it.
func (r *run) configure() error {
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("configure container: %w", err)
	}
	var err error
	if r.cfg, err = r.s.newConfig(r.spec, r.dir); err != nil {
		return err
	}
	r.cgroup, err = r.s.cgroups.Prepare(r.spec, r.cfg.Cgroups)
	return err
}

func (r *run) do(ctx context.Context) (sandbox.Exit, error) {
	if r.ownUsers {
		if err := r.enterOwned(); err != nil {
			return sandbox.Exit{}, err
		}
	}
	if err := privateTmpfs(r.dir); err != nil {
		return sandbox.Exit{}, err
	}
	if err := unix.Sethostname([]byte(hostname(r.spec))); err != nil {
		return sandbox.Exit{}, fmt.Errorf("set host name %q: %w", hostname(r.spec), err)
	}
	var err error
	r.net, err = network.Setup(network.Options{
		Network: r.spec.Network, ResolvConf: r.s.opts.ResolvConf, DNS: r.spec.DNS, IPv6: r.ipv6,
		Allow: r.spec.NetworkAllow, Denied: r.spec.Denied,
	})
	if err != nil {
		return sandbox.Exit{}, err
	}
	if err := r.prepareRoot(); err != nil {
		return sandbox.Exit{}, err
	}
	if !r.s.cgroups.Unified() {
		if err := rootfs.HideCgroups(); err != nil {
			return sandbox.Exit{}, err
		}
	}
	r.container, err = libcontainer.Create(r.path("state"), "c", r.cfg)
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("create container: %w", err)
	}
	return r.start(ctx)
}

// enterOwned makes the run's user namespace. From then on this thread makes files as
// the container's root.
func (r *run) enterOwned() error {
	var err error
	if r.users, err = userns.Enter(firstID); err != nil {
		return err
	}
	r.users.Configure(r.cfg)
	r.mapped = r.users.Dirs(r.path("ids"), r.s.opts.Store)
	return r.users.ActAsRoot()
}

// prepareRoot attaches the root file system and makes all mounts in it.
func (r *run) prepareRoot() error {
	var err error
	r.root, err = rootfs.Attach(r.spec.Root, rootfs.Options{
		Dir: r.dir, Mounts: r.spec.Mounts, Users: r.users, Mapped: r.mapped, Borrowed: r.s.userns, SingleID: r.s.emulated,
	})
	if err != nil {
		return err
	}
	if err := r.root.Base(r.spec); err != nil {
		return err
	}
	if dirs := r.cgroup.Hierarchies(); dirs != nil {
		if err := r.root.Cgroups(dirs, r.spec.Security == dag.SecurityInsecure); err != nil {
			return err
		}
	}
	if err := r.mountEtc(); err != nil {
		return err
	}
	if err := r.root.Own(); err != nil {
		return err
	}
	if err := r.root.MakeCwd(cwd(r.spec), r.spec.User); err != nil {
		return err
	}
	return r.root.SetAside()
}

// mountEtc mounts what this run has of its own in /etc.
func (r *run) mountEtc() error {
	conf, err := network.ResolvConf(r.s.opts.ResolvConf, r.spec.Network, r.spec.DNS)
	if err != nil {
		return err
	}
	return errors.Join(r.root.Etc("resolv.conf", conf), r.root.Etc("hosts", rootfs.Hosts(hostname(r.spec), r.spec.Hosts)))
}

// start runs the process and waits for its end.
func (r *run) start(ctx context.Context) (sandbox.Exit, error) {
	streams, err := newStreams(r.spec)
	if err != nil {
		return sandbox.Exit{}, err
	}
	p, err := r.launch(streams)
	if err != nil {
		streams.abort()
		if msg, code := userMistake(err.Error()); code != 0 {
			return sandbox.Exit{Code: code}, report(r.spec, msg)
		}
		return sandbox.Exit{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(unix.SIGKILL) })
	defer stop()
	pid, err := p.Pid()
	if err == nil {
		err = r.limit(pid)
	}
	if err == nil {
		err = r.release(p)
	}
	if err == nil {
		err = streams.forward()
	}
	if err != nil {
		kill(p)
		streams.abort()
		return sandbox.Exit{}, errors.Join(err, r.endEmulation())
	}
	r.startWatch(pid)
	signals := r.relaySignals(pid)
	state, err := p.Wait()
	signals.end()
	r.endWatch()
	ioErr := errors.Join(streams.Finish(), r.endEmulation())
	if state == nil {
		return sandbox.Exit{}, fmt.Errorf("wait for container: %w", err)
	}
	exit := r.exit(state)
	if words := r.loader.LastWords(); words != "" {
		msg, code := userMistake(words)
		if code == 0 {
			return exit, errors.Join(fmt.Errorf("start container: %s", words), ioErr)
		}
		exit.Code, ioErr = code, errors.Join(ioErr, report(r.spec, msg))
	}
	if signals.ended != 0 {
		exit.Code = 128 + int(signals.ended)
	}
	return exit, ioErr
}

// launch starts the container up to where it would execute the user's process.
func (r *run) launch(streams *streams) (_ *libcontainer.Process, err error) {
	defer streams.started()
	if r.loader, err = confine.NewLoader(); err != nil {
		return nil, err
	}
	defer r.loader.Child.Close()
	if err := r.cgroup.Join(); err != nil {
		return nil, errors.Join(err, r.cgroup.Quit())
	}
	p := r.process(streams)
	err = r.container.Start(p)
	qerr := r.cgroup.Quit()
	if err != nil {
		return nil, fmt.Errorf("start container: %w", errors.Join(err, qerr))
	}
	if qerr != nil {
		kill(p)
		return nil, qerr
	}
	return p, nil
}

// kill ends a container that is not wanted any more.
func kill(p *libcontainer.Process) {
	_ = p.Signal(unix.SIGKILL)
	_, _ = p.Wait()
}

func (r *run) process(streams *streams) *libcontainer.Process {
	u, env := r.spec.User, r.spec.Env
	if r.s.emulated {
		u = sandbox.User{} // the emulation knows better
		env = r.withHome(env)
	}
	p := &libcontainer.Process{
		ExtraFiles: []*os.File{r.loader.Child},
		Args:       r.spec.Args, Env: env, Cwd: cwd(r.spec),
		UID: int(u.UID), GID: int(u.GID), Init: true,
		LogLevel: "2", // errors; the first stages would tell every step otherwise
	}
	for _, g := range u.Groups {
		p.AdditionalGroups = append(p.AdditionalGroups, int(g))
	}
	streams.attach(p)
	return p
}

// release puts the seccomp filter on and lets the prepared container execute its
// process: it waits to open the other end of a fifo. This is Container.Exec
// without its goroutine, which would look for the fifo in another mount namespace.
func (r *run) release(p *libcontainer.Process) error {
	if r.s.emulated {
		if err := r.emulate(p); err != nil {
			return err
		}
	}
	prog, err := r.s.policy.Filter(r.spec)
	if err == nil && prog != nil {
		err = r.loader.Load(prog)
	}
	if err != nil {
		return err
	}
	fifo, err := os.OpenFile(r.path("state", "c", "exec.fifo"), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("release container: %w", err)
	}
	// The end stays open, so that the process's write finds a reader.
	r.closers = append(r.closers, fifo)
	return nil
}

func cwd(spec *sandbox.Spec) string {
	if spec.Cwd == "" {
		return "/"
	}
	return spec.Cwd
}

// close takes away what is not bound to the life of the thread.
func (r *run) close() error {
	var errs []error
	if r.container != nil {
		errs = append(errs, r.container.Destroy())
	}
	if r.loader != nil {
		r.loader.Close()
	}
	for _, f := range r.closers {
		errs = append(errs, f.Close())
	}
	if r.users != nil {
		errs = append(errs, r.users.Close())
	}
	if r.net != nil {
		errs = append(errs, r.net.Close(&r.s.closing))
	}
	if r.root != nil {
		errs = append(errs, r.root.Clean())
	}
	return errors.Join(errs...)
}
