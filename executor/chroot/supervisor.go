package chroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/filter"
	"layered.build/builder/executor/chroot/kernel"
	"layered.build/builder/executor/chroot/trace"
	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/executor/fakeid"
)

// Descriptors of the supervisor. While lifeFD is open, whoever started it wants the
// step to run; what comes there are signals for it.
const (
	configFD = 3
	lifeFD   = 4
	resultFD = 5
)

// supervise runs a step as a child, and ends when nothing of the step is left.
func supervise() int {
	keepFiles(configFD)
	out, err := superviseStep()
	if err != nil {
		out.Error = err.Error()
	}
	result := os.NewFile(resultFD, "result")
	if json.NewEncoder(result).Encode(out) != nil {
		return exitInternal
	}
	return 0
}

func superviseStep() (outcome, error) {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return outcome{}, fmt.Errorf("set parent death signal: %w", err)
	}
	// What the step leaves becomes this process's child.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return outcome{}, fmt.Errorf("become a reaper: %w", err)
	}
	dropCapabilities()
	cfg, err := readConfig(os.NewFile(configFD, "config"))
	if err != nil {
		return outcome{}, err
	}
	pid, control, err := startStep(cfg)
	if err != nil {
		return outcome{}, err
	}
	defer control.Close()
	go serveLife(os.NewFile(lifeFD, "life"), pid)
	k := kernel.New(kernel.Options{
		View:     view.View{Root: cfg.Root, ReadOnly: cfg.ReadOnly, Bindings: cfg.Bindings},
		Programs: cfg.Shadows, Hostname: cfg.Hostname,
	})
	t := trace.New(trace.Options{Calls: k.Handlers(), Tasks: int(cfg.Tasks), OnExec: func(pid int) {
		if cfg.Memory > 0 {
			limitMemory(pid, cfg.Memory) // children inherit it
		}
	}})
	if err := t.Attach(pid, fakeid.New(cfg.UID, cfg.GID, cfg.Groups)); err != nil {
		return outcome{}, errors.Join(err, unix.Kill(pid, unix.SIGKILL))
	}
	cfg.Filter = filter.Rules{
		Traced: t.Calls(), Options: kernel.PrctlOptions(), Offline: cfg.Offline, Counted: cfg.Tasks > 0,
	}.Program().Bytes()
	// The step reads it while this thread serves its system calls.
	var sent atomic.Value
	done := make(chan string, 1)
	go func() {
		if err := json.NewEncoder(control).Encode(cfg); err != nil {
			sent.Store(err)
		}
		b, _ := io.ReadAll(control)
		done <- string(b)
	}()
	if err := t.Run(); err != nil {
		return outcome{}, err
	}
	out := outcome{Code: t.Code(), PidsHit: t.Refused()}
	if text := <-done; text != "" {
		return out, errors.New(text)
	}
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &ru); err == nil {
		out.CPUNanos, out.Memory = ru.Utime.Nano()+ru.Stime.Nano(), ru.Maxrss<<10
	}
	return out, nil
}

// serveLife hands on the signals for the step's first process, a byte each, and kills it
// when nobody wants it any more. Its number is nobody else's while this process, which
// ends with it, has not.
func serveLife(life io.Reader, pid int) {
	var sig [1]byte
	for {
		if _, err := io.ReadFull(life, sig[:]); err != nil {
			_ = unix.Kill(pid, unix.SIGKILL)
			return
		}
		_ = unix.Kill(pid, unix.Signal(sig[0]))
	}
}

// startStep starts this program once more and waits until it waits.
func startStep(cfg *config) (int, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("make socket: %w", err)
	}
	control, far := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer far.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"builder"}
	cmd.Env = []string{roleEnv + "=" + roleStep, "GOMAXPROCS=1"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{far}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: cfg.TTY}
	if err := cmd.Start(); err != nil {
		return 0, nil, errors.Join(fmt.Errorf("start process: %w", err), control.Close())
	}
	if _, err := control.Read(make([]byte, 1)); err != nil {
		return 0, nil, errors.Join(fmt.Errorf("start process: it ended at once: %w", err), control.Close())
	}
	// The runtime keeps a handle on it, but nobody waits with that.
	pid := cmd.Process.Pid
	return pid, control, nil
}
