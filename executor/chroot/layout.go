package chroot

import (
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

	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/snapshot/owner"
)

// layout is what a step sees, and what is made for it.
type layout struct {
	opts layoutOptions
	spec *sandbox.Spec
	root string
	cwd  string
	view []view.Binding
	made []string // mountpoints in the root, parents first
	temp []string // directories elsewhere
}

// layoutOptions say where a layout is made.
type layoutOptions struct {
	// Dir is an existing directory of this run alone; Close removes it.
	Dir string
	// ResolvConf is this machine's resolv.conf.
	ResolvConf string
}

// newLayout makes what a step sees. The root of the Spec is a directory, and so are
// the snapshots that are mounted. The caller closes the layout, also if there is an
// error.
func newLayout(spec *sandbox.Spec, o layoutOptions) (*layout, error) {
	l := &layout{opts: o, spec: spec, cwd: path.Clean("/" + spec.Cwd)}
	dir, _ := spec.Root.Dir()
	var err error
	if l.root, err = filepath.EvalSymlinks(dir); err != nil {
		return l, err
	}
	if err := errors.Join(l.system(), l.devices(), l.etc()); err != nil {
		return l, err
	}
	for i, m := range spec.Mounts {
		if err := l.mount(i, m); err != nil {
			return l, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
	}
	return l, l.makeCwd(l.cwd)
}

// View are the step's files.
func (l *layout) View() view.View {
	return view.View{Root: l.root, ReadOnly: l.spec.ReadOnlyRoot || l.spec.Root.Upper == "", Bindings: l.view}
}

// Cwd is the working directory, an absolute path of the step's.
func (l *layout) Cwd() string { return l.cwd }

// Env is the environment, in which each variable is once, and HOME always.
func (l *layout) Env() []string { return lastOfEach(l.spec.Env, l.home()) }

// Hostname is what the step takes for the name of the machine.
func (l *layout) Hostname() string {
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

// Close takes away what was made for the step only.
func (l *layout) Close() error {
	var errs []error
	if len(l.made) > 0 {
		errs = append(errs, l.removeStubs())
	}
	for _, dir := range append(l.temp, l.opts.Dir) {
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
	v := view.View{Root: l.root, Bindings: l.view}
	p := v.At(real)
	if _, err := os.Stat(p.Host); err == nil || p.ReadOnly || l.spec.ReadOnlyRoot {
		return nil // or the step's process finds out
	}
	if err := l.makeCwd(path.Dir(real)); err != nil {
		return err
	}
	if err := os.Mkdir(p.Host, 0o755); err != nil {
		return fmt.Errorf("make working directory %s: %w", cwd, err)
	}
	return owner.Record(p.Host, l.spec.User.UID, l.spec.User.GID)
}
