package chroot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"layered.build/builder/executor/chroot/layout"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
)

// Options configure a Sandbox.
type Options struct {
	// StateDir is a directory for what runs need; programs must be executable there.
	StateDir string
	// ResolvConf is this machine's resolv.conf; "" is /etc/resolv.conf.
	ResolvConf string
	// Total are limits of all runs together. They are not kept, which LimitNotes says.
	Total dag.Limits
}

// Sandbox runs processes without namespaces and mounts. It is safe for concurrent
// use. The root and the mounts of a Spec must be directories (snapshot.Mount.Dir).
type Sandbox struct {
	opts    Options
	scratch *files.Scratch // of this process
}

// scratchPrefix begins the names of the directories of processes.
const scratchPrefix = "chroot-"

var _ sandbox.Sandbox = (*Sandbox)(nil)

// New returns a sandbox.
func New(opts Options) (*Sandbox, error) {
	if opts.ResolvConf == "" {
		opts.ResolvConf = "/etc/resolv.conf"
	}
	dir, err := filepath.Abs(opts.StateDir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("sandbox state directory: %w", err)
	}
	opts.StateDir = dir
	sc, err := files.NewScratch(dir, scratchPrefix)
	if err != nil {
		return nil, fmt.Errorf("sandbox state directory: %w", err)
	}
	s := &Sandbox{opts: opts, scratch: sc}
	if err := os.Mkdir(s.programs(), 0o700); err != nil {
		return nil, errors.Join(fmt.Errorf("sandbox state directory: %w", err), sc.Remove())
	}
	return s, nil
}

// programs is where copies of executed programs are.
func (s *Sandbox) programs() string { return s.scratch.Path("programs") }

// Reclaim removes what killed processes left.
func (s *Sandbox) Reclaim(context.Context) error { return files.Sweep(s.opts.StateDir, scratchPrefix) }

// Close removes what the sandbox kept between runs. No run may be in progress.
func (s *Sandbox) Close() error { return s.scratch.Remove() }

// Run implements sandbox.Sandbox.
func (s *Sandbox) Run(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
	if err := check(spec); err != nil {
		return sandbox.Exit{}, err
	}
	if ctx.Err() != nil {
		return sandbox.Exit{}, context.Cause(ctx)
	}
	exit, err := s.run(ctx, spec)
	if ctx.Err() != nil {
		return exit, context.Cause(ctx)
	}
	return exit, err
}

func (s *Sandbox) run(ctx context.Context, spec *sandbox.Spec) (_ sandbox.Exit, err error) {
	dir, err := os.MkdirTemp(s.scratch.Dir(), "run-")
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("prepare step: %w", err)
	}
	l, err := layout.New(spec, layout.Options{Dir: dir, ResolvConf: s.opts.ResolvConf})
	defer func() { err = errors.Join(err, l.Close()) }()
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("prepare step: %w", err)
	}
	cfg, err := s.config(spec, l)
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("prepare step: %w", err)
	}
	return start(ctx, spec, cfg)
}

// config is what the processes of a step are told.
func (s *Sandbox) config(spec *sandbox.Spec, l *layout.Layout) (*config, error) {
	limits, err := limitsOf(spec)
	if err != nil {
		return nil, err
	}
	v, u := l.View(), spec.User
	return &config{
		Root: v.Root, ReadOnly: v.ReadOnly, Bindings: v.Bindings,
		Args: spec.Args, Env: l.Env(), Cwd: l.Cwd(),
		UID: u.UID, GID: u.GID, Groups: u.Groups, Hostname: l.Hostname(), Limits: limits,
		Memory: spec.Limits.Memory, Tasks: spec.Limits.Pids, CPUs: spec.Limits.CpusetCPUs,
		Offline: spec.Network == dag.NetNone, Shadows: s.programs(), TTY: spec.TTY, Complaint: spec.Complaint,
	}, nil
}

// check refuses specs that make no sense here, before anything is done.
func check(spec *sandbox.Spec) error {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return errors.New("run step: no command")
	}
	if _, ok := spec.Root.Dir(); !ok {
		return errors.New("run step: its root file system has to be mounted, which is not possible without privileges")
	}
	for _, m := range spec.Mounts {
		if !filepath.IsAbs(m.Dest) || filepath.Clean(m.Dest) == "/" {
			return fmt.Errorf("run step: mount destination %q is not an absolute path below /", m.Dest)
		}
	}
	switch {
	case spec.Security == dag.SecurityInsecure:
		return errors.New("run step: security.insecure needs privileges, of which --isolation=chroot has none")
	case spec.Limits.Parent != "":
		return errors.New("run step: a parent cgroup cannot be used with --isolation=chroot, which makes no cgroups")
	case len(spec.Devices) > 0:
		return errors.New("run step: devices cannot be given to steps with --isolation=chroot")
	}
	if spec.Confine != nil {
		return errors.New("run step: security options need namespaces and filters that --isolation=chroot has not")
	}
	if len(spec.NetworkAllow) > 0 {
		return errors.New("run step: the hosts that a step talks to cannot be limited with --isolation=chroot")
	}
	switch spec.Network {
	case dag.NetDefault, dag.NetNone, dag.NetHost:
	default:
		return fmt.Errorf("run step: unknown network %q", spec.Network)
	}
	return nil
}

// start runs the supervisor and waits for it.
func start(ctx context.Context, spec *sandbox.Spec, cfg *config) (sandbox.Exit, error) {
	config, configIn, err1 := os.Pipe()
	life, lifeIn, err2 := os.Pipe()
	resultOut, result, err3 := os.Pipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return sandbox.Exit{}, fmt.Errorf("start step: %w", err)
	}
	defer closeAll(configIn, lifeIn, resultOut)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"builder"}
	cmd.Env = []string{roleEnv + "=" + roleSupervisor, "GOMAXPROCS=2"}
	cmd.ExtraFiles = []*os.File{config, life, result}
	std, err := startWith(spec, cmd)
	closeAll(config, life, result)
	if err != nil {
		return sandbox.Exit{}, err
	}
	ferr := std.Forward()
	if ferr != nil {
		lifeIn.Close() // it is over
	}
	stop := context.AfterFunc(ctx, func() { lifeIn.Close() })
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	if spec.Signals != nil {
		go relaySignals(lifeIn, spec.Signals, ended)
	}
	err = json.NewEncoder(configIn).Encode(cfg)
	configIn.Close()
	text, rerr := io.ReadAll(resultOut)
	werr := cmd.Wait()
	ioErr := errors.Join(ferr, std.Finish())
	var out outcome
	if jerr := json.Unmarshal(text, &out); jerr != nil {
		return sandbox.Exit{}, fmt.Errorf("run step: the supervisor failed: %w", errors.Join(err, rerr, werr, jerr))
	}
	if out.Error != "" {
		return sandbox.Exit{}, fmt.Errorf("run step: %s", out.Error)
	}
	return sandbox.Exit{Code: out.Code, PidsHit: out.PidsHit, Usage: sandbox.Usage{CPUNanos: out.CPUNanos, PeakMemory: out.Memory, Processes: 1}}, ioErr
}

// relaySignals tells the supervisor of signals for the step, a byte each. It is not
// waited for: a pipe that is full is closed with the end of the step.
func relaySignals(life *os.File, signals <-chan syscall.Signal, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case sig := <-signals:
			if _, err := life.Write([]byte{byte(sig)}); err != nil {
				return
			}
		}
	}
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		f.Close()
	}
}
