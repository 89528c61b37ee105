package chroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/chroot/filter"
	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/executor/sandbox"
)

// roleEnv tells this program that it was started to be one of the two processes
// below.
const roleEnv = "_BUILDER_CHROOT"

const (
	roleSupervisor = "supervisor"
	roleStep       = "step"
)

// config is what the processes are told.
type config struct {
	Root     string
	ReadOnly bool
	Bindings []view.Binding
	Args     []string
	Env      []string
	Cwd      string
	UID, GID uint32
	Groups   []uint32
	Hostname string
	Limits   []limit
	Memory   int64  // bytes of data a process; 0 is no limit
	Tasks    int64  // threads and processes; 0 is no limit
	CPUs     string // processors that may be used; "" is all
	Offline  bool
	Shadows  string // directory of copied programs
	TTY      bool
	// Complaint begins what is said of a command that cannot be executed.
	Complaint string
	Filter    []byte `json:",omitempty"`
}

type limit struct {
	Number     int
	Soft, Hard uint64
}

// outcome is what the supervisor reports.
type outcome struct {
	Code     int
	CPUNanos int64
	Memory   int64
	PidsHit  int64  // tasks that the limit forbade
	Error    string `json:",omitempty"`
}

// Init takes over if this process was started to run a step; then it does not
// return. Otherwise it returns at once. It belongs at the very beginning of main, and
// of TestMain in packages whose tests run steps.
func Init() {
	role, ok := os.LookupEnv(roleEnv)
	if !ok {
		return
	}
	runtime.LockOSThread()
	switch role {
	case roleSupervisor:
		os.Exit(supervise())
	case roleStep:
		os.Exit(becomeStep())
	}
	os.Exit(exitInternal)
}

// exitInternal is the exit code of a process that failed before it was the step.
const exitInternal = 125

// controlFD is a socket between the supervisor and the step, as long as that is
// this program.
const controlFD = 3

// becomeStep waits until it is traced, confines itself, and executes the command.
// The exit code tells the user why that was not possible.
func becomeStep() int {
	keepFiles(controlFD)
	control := os.NewFile(controlFD, "control")
	if _, err := control.Write([]byte("r")); err != nil {
		return exitInternal
	}
	var cfg config
	dec := json.NewDecoder(control)
	if err := dec.Decode(&cfg); err != nil {
		return exitInternal
	}
	if err := cfg.confine(); err != nil {
		fmt.Fprint(control, err)
		return exitInternal
	}
	if err := unix.Chdir(cfg.Cwd); err != nil {
		fmt.Fprintf(os.Stderr, "%schdir to cwd (%q): %v\n", cfg.Complaint, cfg.Cwd, err)
		return 126
	}
	path, err := lookPath(cfg.Args[0], cfg.Env)
	if err == nil {
		err = unix.Exec(path, cfg.Args, cfg.Env)
		err = fmt.Errorf("exec %s: %w", path, err)
	}
	fmt.Fprintf(os.Stderr, "%s%v\n", cfg.Complaint, err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// confine gives up what the step is not to have.
func (cfg *config) confine() error {
	for _, l := range cfg.Limits {
		if err := unix.Setrlimit(l.Number, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("set limit %d: %w", l.Number, err)
		}
	}
	if cfg.CPUs != "" {
		set, err := cpuSet(cfg.CPUs)
		if err == nil {
			err = unix.SchedSetaffinity(0, &set)
		}
		if err != nil {
			return fmt.Errorf("use processors %s: %w", cfg.CPUs, err)
		}
	}
	sandbox.HeedSignals()
	unix.Umask(0o022)
	return filter.Parse(cfg.Filter).Install()
}

// lookPath finds a command as execvp(3) does.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name, name)
	}
	for _, dir := range filepath.SplitList(lookEnv(env, "PATH")) {
		if dir == "" {
			dir = "."
		}
		p := filepath.Join(dir, name)
		if executable(name, p) == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("exec: %q: %w", name, exec.ErrNotFound)
}

func executable(name, p string) error {
	var st unix.Stat_t
	if err := unix.Stat(p, &st); err != nil {
		return fmt.Errorf("exec: %q: %w", name, &fs.PathError{Op: "stat", Path: p, Err: err})
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("exec: %q: %w", name, unix.EISDIR)
	case st.Mode&0o111 == 0:
		return fmt.Errorf("exec: %q: %w", name, unix.EACCES)
	}
	return nil
}

func lookEnv(env []string, name string) (value string) {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

// readConfig reads what the one who started this process says.
func readConfig(r io.Reader) (*config, error) {
	cfg := new(config)
	if err := json.NewDecoder(r).Decode(cfg); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return cfg, nil
}
