// Package layout makes what a step sees without mounts: its root directory and bindings
// for /proc, /sys, /dev, files in /etc and the mounts of its Spec. Mountpoints that the
// root lacks are made in it, so that listings show them, and taken away again.
package layout

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

	"layered.build/builder/executor/chroot/view"
	"layered.build/builder/executor/sandbox"
)

// Layout is what a step sees, and what is made for it.
type Layout struct {
	opts Options
	spec *sandbox.Spec
	root string
	cwd  string
	view []view.Binding
	made []string // mountpoints in the root, parents first
	temp []string // directories elsewhere
}

// Options say where a layout is made.
type Options struct {
	// Dir is an existing directory of this run alone; Close removes it.
	Dir string
	// ResolvConf is this machine's resolv.conf.
	ResolvConf string
}

// New makes what a step sees. The root of the Spec is a directory, and so are
// the snapshots that are mounted. The caller closes the layout, also if there is an
// error.
func New(spec *sandbox.Spec, o Options) (*Layout, error) {
	l := &Layout{opts: o, spec: spec, cwd: path.Clean("/" + spec.Cwd)}
	dir, _ := spec.Root.Dir()
	var err error
	if l.root, err = filepath.EvalSymlinks(dir); err != nil {
		return l, err
	}
	if err := errors.Join(l.system(), l.devices(), l.etc()); err != nil {
		return l, err
	}
	for _, m := range sandbox.Arrange(spec.Mounts) {
		if err := l.mount(m); err != nil {
			return l, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
	}
	return l, l.makeCwd(l.cwd)
}

// View are the step's files.
func (l *Layout) View() view.View {
	return view.View{Root: l.root, ReadOnly: l.spec.ReadOnlyRoot || l.spec.Root.Upper == "", Bindings: l.view}
}

// Cwd is the working directory, an absolute path of the step's.
func (l *Layout) Cwd() string { return l.cwd }

// Env is the environment, in which each variable is once, and HOME always.
func (l *Layout) Env() []string { return lastOfEach(l.spec.Env, l.home()) }

// Hostname is what the step takes for the name of the machine.
func (l *Layout) Hostname() string {
	if l.spec.Hostname != "" {
		return l.spec.Hostname
	}
	return "buildkitsandbox" // what Dockerfiles see under BuildKit
}

// home is the user's home directory, of the root's passwd.
func (l *Layout) home() string {
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
func (l *Layout) Close() error {
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
