package chroot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/owner"
)

// layout is one run: what the step sees, and what is made for it.
type layout struct {
	s    *Sandbox
	spec *sandbox.Spec
	dir  string // of this run
	root string
	view []binding
	made []string // mountpoints in the root, parents first
	temp []string // directories elsewhere
}

func (l *layout) run(ctx context.Context) (sandbox.Exit, error) {
	dir, _ := l.spec.Root.Dir()
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("prepare step: %w", err)
	}
	l.root = root
	cfg, err := l.config()
	if err != nil {
		return sandbox.Exit{}, fmt.Errorf("prepare step: %w", err)
	}
	return l.start(ctx, cfg)
}

func (l *layout) config() (*config, error) {
	if err := errors.Join(l.system(), l.devices(), l.etc()); err != nil {
		return nil, err
	}
	for i, m := range l.spec.Mounts {
		if err := l.mount(i, m); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
	}
	cwd := path.Clean("/" + l.spec.Cwd)
	if err := l.makeCwd(cwd); err != nil {
		return nil, err
	}
	limits, err := l.limits()
	if err != nil {
		return nil, err
	}
	u := l.spec.User
	return &config{
		Root: l.root, ReadOnly: l.spec.ReadOnlyRoot || l.spec.Root.Upper == "", Bindings: l.view,
		Args: l.spec.Args, Env: lastOfEach(l.spec.Env, l.home()), Cwd: cwd,
		UID: u.UID, GID: u.GID, Groups: u.Groups, Hostname: l.hostname(), Limits: limits,
		Memory: l.spec.Limits.Memory, Tasks: l.spec.Limits.Pids, CPUs: l.spec.Limits.CpusetCPUs,
		Offline: l.spec.Network == dag.NetNone, Shadows: l.s.programs(), TTY: l.spec.TTY,
	}, nil
}

func (l *layout) hostname() string {
	if l.spec.Hostname != "" {
		return l.spec.Hostname
	}
	return "buildkitsandbox" // what Dockerfiles see under BuildKit
}

// home is the user's home directory, of the root's passwd.
func (l *layout) home() string {
	p, err := securejoin.SecureJoin(l.root, "/etc/passwd")
	if err != nil {
		return "/"
	}
	b, _ := os.ReadFile(p)
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) > 5 && f[2] == strconv.FormatUint(uint64(l.spec.User.UID), 10) && f[5] != "" {
			return f[5]
		}
	}
	return "/"
}

// lastOfEach keeps the last value of each variable, and adds HOME where it is not set.
func lastOfEach(env []string, home string) []string {
	var out []string
	seen := map[string]bool{}
	for _, kv := range slices.Backward(env) {
		name, _, _ := strings.Cut(kv, "=")
		if !seen[name] {
			seen[name] = true
			out = append(out, kv)
		}
	}
	slices.Reverse(out)
	if !seen["HOME"] {
		out = append(out, "HOME="+home)
	}
	return out
}

// bind shows something at a place, whose symlinks are resolved in the root.
func (l *layout) bind(guest, host string, readOnly bool) error {
	real, err := l.resolve(guest)
	if err != nil {
		return err
	}
	fi, err := os.Stat(host)
	if err != nil {
		return err
	}
	if err := l.stub(real, fi.IsDir()); err != nil {
		return err
	}
	l.view = append(l.view, binding{Guest: real, Host: host, ReadOnly: readOnly})
	return nil
}

// resolve follows the symlinks on the way to a place, also through what is bound
// already.
func (l *layout) resolve(guest string) (string, error) {
	w := &viewer{
		v: &view{root: l.root, bindings: l.view}, root: "/", pid: os.Getpid(), tid: os.Getpid(), lenient: true,
		known: func(int) bool { return false }, original: func(s string) string { return s },
	}
	p, err := w.resolve("/", path.Clean("/"+guest), true)
	return p.guest, err
}

// stub makes a mountpoint that is missing, so that listings show it. What lies in
// another mount is only made if its host side can be written to.
func (l *layout) stub(guest string, dir bool) error {
	v := view{root: l.root, bindings: l.view}
	p := v.at(guest)
	if _, err := os.Lstat(p.host); err == nil || p.readOnly {
		return nil
	}
	inRoot := strings.HasPrefix(p.host, l.root+"/")
	if inRoot && l.spec.Root.Upper == "" {
		return nil // the step finds it all the same
	}
	if parent := path.Dir(guest); parent != "/" {
		if err := l.stub(parent, true); err != nil {
			return err
		}
	}
	return l.keepTime(path.Dir(p.host), func() error {
		var err error
		if dir {
			err = os.Mkdir(p.host, 0o755)
		} else {
			var f *os.File
			if f, err = os.OpenFile(p.host, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err == nil {
				err = f.Close()
			}
		}
		if err == nil && inRoot {
			l.made = append(l.made, strings.TrimPrefix(p.host, l.root+"/"))
		}
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		return err
	})
}

// keepTime runs f and sets a directory's times back.
func (l *layout) keepTime(dir string, f func() error) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, 0)
}

// removeStubs takes away the mountpoints that are still empty. The step may have put
// symlinks in the place of their parents.
func (l *layout) removeStubs() error {
	root, err := os.OpenRoot(l.root)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, rel := range slices.Backward(l.made) {
		fi, err := root.Lstat(rel)
		if err != nil || !fi.IsDir() && (!fi.Mode().IsRegular() || fi.Size() > 0) {
			continue
		}
		dir, err := root.Stat(path.Dir(rel))
		if err != nil || root.Remove(rel) != nil {
			continue // a directory that is not empty stays
		}
		_ = root.Chtimes(path.Dir(rel), dir.ModTime(), dir.ModTime())
	}
	return nil
}

func (l *layout) close() error {
	var errs []error
	if len(l.made) > 0 {
		errs = append(errs, l.removeStubs())
	}
	for _, dir := range append(l.temp, l.dir) {
		errs = append(errs, removeTree(dir))
	}
	return errors.Join(errs...)
}

// removeTree is os.RemoveAll that gets into directories whose owner may not.
func removeTree(dir string) error {
	if os.RemoveAll(dir) == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}

// hiddenPaths of /proc and /sys tell about the machine; fixedPaths change it. They
// are those that containers mask, and make read-only.
func hiddenPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
}

func fixedPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// system shows the machine's /proc and /sys.
func (l *layout) system() error {
	for _, dir := range []string{"/proc", "/sys"} {
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if err := l.bind(dir, dir, dir == "/sys"); err != nil {
			return err
		}
	}
	empty := filepath.Join(l.dir, "empty")
	if err := os.Mkdir(empty, 0o555); err != nil {
		return err
	}
	for _, p := range fixedPaths() {
		if _, err := os.Lstat(p); err == nil {
			l.view = append(l.view, binding{p, p, true})
		}
	}
	for _, p := range hiddenPaths() {
		fi, err := os.Lstat(p)
		switch {
		case err != nil:
		case fi.IsDir():
			l.view = append(l.view, binding{p, empty, true})
		default:
			l.view = append(l.view, binding{p, "/dev/null", true})
		}
	}
	return nil
}

// devices makes /dev of the few devices that every container has.
func (l *layout) devices() error {
	dev := filepath.Join(l.dir, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := l.bind("/dev", dev, false); err != nil {
		return err
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts"} {
		host := "/dev/" + name
		if _, err := os.Stat(host); err != nil {
			continue
		}
		if err := l.bind("/dev/"+name, host, false); err != nil {
			return err
		}
	}
	shm, err := l.memory()
	if err != nil {
		return err
	}
	return errors.Join(os.Chmod(shm, 0o1777), l.bind("/dev/shm", shm, false))
}

// memory makes a directory that is in memory, if the machine lets it.
func (l *layout) memory() (string, error) {
	var st unix.Statfs_t
	if unix.Statfs("/dev/shm", &st) == nil && st.Type == unix.TMPFS_MAGIC && unix.Access("/dev/shm", unix.W_OK) == nil {
		if dir, err := os.MkdirTemp("/dev/shm", "builder-shm-"); err == nil {
			l.temp = append(l.temp, dir)
			return dir, nil
		}
	}
	return os.MkdirTemp(l.dir, "shm-")
}

// etc writes /etc/hosts and /etc/resolv.conf for this run.
func (l *layout) etc() error {
	conf, err := l.resolvConf()
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"resolv.conf": conf, "hosts": l.hosts()} {
		file := filepath.Join(l.dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
		if err := l.bind("/etc/"+name, file, true); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) hosts() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", l.hostname())
	for _, h := range l.spec.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return b.Bytes()
}

// resolvConf is this machine's, changed as the build says.
func (l *layout) resolvConf() ([]byte, error) {
	b, err := os.ReadFile(l.s.opts.ResolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	dns := l.spec.DNS
	if dns == nil {
		return b, nil
	}
	var out bytes.Buffer
	replaced := map[string]bool{
		"nameserver": len(dns.Servers) > 0, "search": len(dns.Search) > 0, "domain": len(dns.Search) > 0, "options": len(dns.Options) > 0,
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 && !replaced[f[0]] {
			out.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	for _, s := range dns.Servers {
		fmt.Fprintf(&out, "nameserver %s\n", s)
	}
	if len(dns.Search) > 0 {
		out.WriteString("search " + strings.Join(dns.Search, " ") + "\n")
	}
	if len(dns.Options) > 0 {
		out.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return out.Bytes(), nil
}

// mount makes the i-th mount of the Spec.
func (l *layout) mount(_ int, m sandbox.Mount) error {
	dest := path.Clean(m.Dest)
	if dest == "/proc" || strings.HasPrefix(dest, "/proc/") {
		return errors.New("nothing can be mounted in /proc")
	}
	switch {
	case m.Tmpfs != nil:
		dir, err := l.memory()
		if err != nil {
			return err
		}
		mode := m.Tmpfs.Mode
		if mode == 0 {
			mode = 0o1777
		}
		return errors.Join(owner.Chmod(dir, unix.S_IFDIR|mode), l.bind(dest, dir, m.ReadOnly))
	case m.HostPath != "":
		host, err := filepath.EvalSymlinks(m.HostPath)
		if err == nil && m.Selector != "" {
			host, err = beneath(host, m.Selector)
		}
		if err != nil {
			return err
		}
		return l.bind(dest, host, m.ReadOnly)
	}
	dir, ok := m.Snapshot.Dir()
	if !ok {
		return errors.New("it would have to be mounted, which is not possible without privileges")
	}
	src, err := securejoin.SecureJoin(dir, m.Selector)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(src); err != nil {
		return &os.PathError{Op: "find", Path: "/" + strings.TrimPrefix(m.Selector, "/"), Err: unix.ENOENT}
	}
	return l.bind(dest, src, m.ReadOnly || m.Snapshot.Upper == "")
}

// beneath is a path below a directory that leads through no symlink. A process that
// puts one there later is not kept from it, as no process is on this rung.
func beneath(dir, path string) (string, error) {
	root, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := sandbox.Beneath(int(root.Fd()), path)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, path), f.Close()
}

// makeCwd makes the working directory if it is missing, owned by the user that the
// process runs as. It is a change that stays.
func (l *layout) makeCwd(cwd string) error {
	real, err := l.resolve(cwd)
	if err != nil {
		return fmt.Errorf("resolve working directory: %w", err)
	}
	v := view{root: l.root, bindings: l.view}
	p := v.at(real)
	if _, err := os.Stat(p.host); err == nil || p.readOnly || l.spec.ReadOnlyRoot {
		return nil // or the step's process finds out
	}
	if err := l.makeCwd(path.Dir(real)); err != nil {
		return err
	}
	if err := os.Mkdir(p.host, 0o755); err != nil {
		return fmt.Errorf("make working directory %s: %w", cwd, err)
	}
	return owner.Record(p.host, l.spec.User.UID, l.spec.User.GID)
}
