package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/executor/leak"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	fileowner "layered.build/builder/snapshot/owner"
)

// mounter prepares what one process has mounted besides its root.
type mounter struct {
	w       *Worker
	job     *executor.Job
	guard   *leak.Guard
	scratch *files.Scratch     // copies of contexts
	secrets *files.Scratch     // in memory
	sockets *files.Scratch     // of ssh agents
	caches  map[string]string  // directories that are held, by what names them
	written []cachemount.Mount // that the process may write to, if anybody wants to know
	outputs map[int]output
	undo    []func() error
}

// output is a mount that becomes one of the step's results: what active holds above
// result, or just that.
type output struct {
	active *snapshot.Active
	result executor.Result
}

// discard gives back what is left of outputs.
func (m *mounter) discard() error {
	var errs []error
	for _, o := range m.outputs {
		if o.active != nil {
			errs = append(errs, o.active.Discard())
		}
	}
	return errors.Join(errs...)
}

// close gives back all that the mounts needed, but not the outputs.
func (m *mounter) close() error {
	var errs []error
	for i := len(m.undo) - 1; i >= 0; i-- {
		errs = append(errs, m.undo[i]())
	}
	m.undo = nil
	return errors.Join(errs...)
}

// add mounts folders of the host, then what the step asks for, then what devices
// need.
func (m *mounter) add(ctx context.Context, op *dag.Exec, spec *sandbox.Spec) error {
	volumes, err := m.volumes(op)
	if err != nil {
		return err
	}
	own, err := m.all(ctx, op)
	spec.Mounts = slices.Concat(volumes, own, spec.Mounts)
	return err
}

func (m *mounter) all(ctx context.Context, op *dag.Exec) ([]sandbox.Mount, error) {
	var out []sandbox.Mount
	for _, mount := range op.Mounts {
		if mount.Dest == "/" {
			continue
		}
		sm, ok, err := m.one(ctx, mount)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", mount.Dest, err)
		}
		if ok {
			sm.Dest = mount.Dest
			out = append(out, sm)
		}
	}
	return out, nil
}

// one prepares a mount; ok is false if it is optional and left out.
func (m *mounter) one(ctx context.Context, mount dag.Mount) (_ sandbox.Mount, ok bool, err error) {
	switch mount.Type {
	case dag.MountBind:
		sm, err := m.bind(ctx, mount)
		return sm, true, err
	case dag.MountCache:
		sm, err := m.cache(ctx, mount)
		return sm, true, err
	case dag.MountTmpfs:
		return sandbox.Mount{Tmpfs: &sandbox.Tmpfs{Size: mount.Size}}, true, nil
	case dag.MountSecret:
		return m.secret(ctx, mount)
	case dag.MountSSH:
		return m.ssh(ctx, mount)
	}
	return sandbox.Mount{}, false, fmt.Errorf("mounts of type %s are not supported", mount.Type)
}

func (m *mounter) input(mount dag.Mount) executor.Result {
	if mount.Input < 0 || mount.Input >= len(m.job.Inputs) {
		return executor.Result{}
	}
	return m.job.Inputs[mount.Input]
}

// bind mounts files of an input. What is written to it is an output of the step, or lost
// afterwards.
func (m *mounter) bind(ctx context.Context, mount dag.Mount) (sandbox.Mount, error) {
	in := m.input(mount)
	if mount.Output > 0 {
		if in.Tree != nil || in.Remote != nil {
			return sandbox.Mount{}, errors.New("files of a source that has no layers cannot become an output")
		}
		m.keep(mount.Output, output{result: in})
	}
	tree, err := m.w.tree(ctx, in)
	if err != nil {
		return sandbox.Mount{}, err
	}
	name := strings.TrimPrefix(path.Clean("/"+mount.Selector), "/")
	if name == "" {
		name = "."
	}
	real, err := snapshot.ResolvePath(tree, name, true)
	if err != nil {
		return sandbox.Mount{}, err
	}
	if _, err := tree.Lstat(real); err != nil {
		return sandbox.Mount{}, missing(tree, name, real, err)
	}
	if in.Tree != nil || in.Remote != nil || len(in.Stack) == 0 && (mount.Output == 0 || mount.ReadOnly) {
		p, err := m.materialize(ctx, tree, real)
		return sandbox.Mount{HostPath: p, ReadOnly: mount.ReadOnly}, err
	}
	if mount.ReadOnly {
		view, err := m.w.machine.Store.View(ctx, in.Stack)
		return sandbox.Mount{Snapshot: view, Selector: real, ReadOnly: true}, err
	}
	active, err := m.w.machine.Store.Prepare(ctx, in.Stack)
	if err != nil {
		return sandbox.Mount{}, err
	}
	if mount.Output > 0 {
		m.keep(mount.Output, output{active: active, result: in})
	} else {
		m.undo = append(m.undo, active.Discard)
	}
	return sandbox.Mount{Snapshot: active.Mount(), Selector: real}, nil
}

func (m *mounter) keep(n int, o output) {
	if m.outputs == nil {
		m.outputs = map[int]output{}
	}
	m.outputs[n] = o
}

// materialize copies files of a build context into a directory that is removed
// afterwards: the process sees what was hashed, without the files that are
// ignored, and with the owners that a COPY would give.
func (m *mounter) materialize(ctx context.Context, tree snapshot.Tree, p string) (string, error) {
	if m.scratch == nil {
		s, err := files.NewScratch(m.w.folder(runFolder), "mount-")
		if err != nil {
			return "", err
		}
		m.scratch = s
		m.undo = append(m.undo, s.Remove)
	}
	dest, err := os.MkdirTemp(m.scratch.Dir(), "")
	if err != nil {
		return "", err
	}
	dest = filepath.Join(dest, "files")
	return dest, writeTree(ctx, tree, p, dest)
}

// secret puts a secret into a file in memory.
func (m *mounter) secret(ctx context.Context, mount dag.Mount) (sandbox.Mount, bool, error) {
	value, ok, err := m.w.secret(ctx, mount.ID, mount.Required)
	if !ok || err != nil {
		return sandbox.Mount{}, false, err
	}
	m.guard.Hand(mount.ID, value)
	if m.secrets == nil {
		dir, err := memoryDir()
		if err != nil {
			return sandbox.Mount{}, false, err
		}
		if m.secrets, err = files.NewScratch(dir, secretPrefix()); err != nil {
			return sandbox.Mount{}, false, err
		}
		m.undo = append(m.undo, m.secrets.Remove)
	}
	f, err := os.CreateTemp(m.secrets.Dir(), "")
	if err != nil {
		return sandbox.Mount{}, false, err
	}
	_, err = f.Write(value)
	err = errors.Join(err, fileowner.Lchown(f.Name(), uint32(number(mount.UID, 0)), uint32(number(mount.GID, 0))), unix.Fchmod(int(f.Fd()), uint32(number(mount.Mode, 0o400))), f.Close())
	return sandbox.Mount{HostPath: f.Name(), ReadOnly: true}, true, err
}

func number(p *int, otherwise int) int {
	if p == nil {
		return otherwise
	}
	return *p
}

// secretPrefix begins the names of directories with secrets.
func secretPrefix() string { return fmt.Sprintf("builder-secret-%d-", os.Getuid()) }

// memoryDir finds a file system that is not on any disk.
func memoryDir() (string, error) {
	for _, dir := range memoryDirs() {
		if unix.Access(dir, unix.W_OK) == nil {
			return dir, nil
		}
	}
	return "", errors.New("secrets need a writable tmpfs at /dev/shm, $XDG_RUNTIME_DIR or /run: there is none")
}

// memoryDirs are the directories where secrets may lie.
func memoryDirs() []string {
	var dirs []string
	for _, dir := range []string{"/dev/shm", os.Getenv("XDG_RUNTIME_DIR"), "/run"} {
		var st unix.Statfs_t
		if dir != "" && unix.Statfs(dir, &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
