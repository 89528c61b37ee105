package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// file computes what a File changes, without mounting anything, and makes a layer
// of it, an empty one if nothing changed: as in BuildKit, WORKDIR has a layer even
// where the directory exists.
func (w *Worker) file(ctx context.Context, job *executor.Job, op *dag.File) (_ *executor.Outcome, err error) {
	var base snapshot.Stack
	var below snapshot.Tree = emptyTree{}
	if op.Base && len(job.Inputs) > 0 {
		base = job.Inputs[0].Stack
		if below, err = w.outline(ctx, job.Inputs[0]); err != nil {
			return nil, err
		}
	}
	e := w.newEditor(job, below, len(op.Actions))
	defer func() { err = errors.Join(err, e.close()) }()
	for _, a := range op.Actions {
		if err := e.do(ctx, a); err != nil {
			return nil, err
		}
	}
	changes, err := e.draft.finish()
	if err != nil {
		return nil, err
	}
	guard := w.fetchGuard(job)
	look := guard.Inspector()
	l, err := w.machine.Store.WriteLayer(ctx, base, changes, snapshot.WriteOptions{
		Dir: job.Mounted, Epoch: w.build.Epoch, Inspect: look, Tap: w.tap(job, base, look), Named: w.named(job),
	})
	if err != nil {
		return nil, leakOnly(err)
	}
	warn(job, guard.Warnings("it is allowed")...)
	return &executor.Outcome{
		Results:  []executor.Result{{Stack: append(slices.Clone(base), l)}},
		Findings: e.draft.found.all(),
	}, nil
}

// editor does the actions of one File.
type editor struct {
	w     *Worker
	job   *executor.Job
	draft *draft
	spool *spool // contents of archives; nil until there are some
}

// newEditor begins a File of some actions.
func (w *Worker) newEditor(job *executor.Job, below snapshot.Tree, actions int) *editor {
	e := &editor{w: w, job: job, draft: newDraft(below)}
	e.draft.found.several = actions > 1
	return e
}

func (e *editor) close() error {
	if e.spool == nil {
		return nil
	}
	return e.spool.close()
}

func (e *editor) do(ctx context.Context, a dag.Action) error {
	switch {
	case a.Copy != nil:
		return e.copy(ctx, a.Copy)
	case a.Mkfile != nil:
		return e.mkfile(a.Mkfile)
	case a.Mkdir != nil:
		return e.mkdir(a.Mkdir)
	case a.Rm != nil:
		return e.rm(a.Rm)
	case a.Symlink != nil:
		return e.symlink(a.Symlink)
	}
	return errors.New("empty file action")
}

func (e *editor) copy(ctx context.Context, c *dag.Copy) error {
	if c.Input < 0 || c.Input >= len(e.job.Inputs) {
		return fmt.Errorf("copy from input %d, which does not exist", c.Input)
	}
	from, err := e.w.outline(ctx, e.job.Inputs[c.Input])
	if err != nil {
		return err
	}
	cp, err := newCopier(c, e.draft, from, e.w.now())
	if err != nil {
		return err
	}
	cp.reads = e.job.Inputs[c.Input].Reads
	cp.unpack = func(ctx context.Context, m match, dest string) (bool, error) { return e.unpack(ctx, cp, m, dest) }
	return cp.run(ctx)
}

// owner resolves the owner of something that a step makes by itself, nil if none is asked
// for. A name that the image does not know is no finding here: WORKDIR may follow an early
// USER.
func (e *editor) owner(o *dag.Owner) (*owner, error) {
	if o == nil {
		return nil, nil
	}
	own, _, err := resolveOwner(e.draft, o)
	return &own, err
}

func (e *editor) mkfile(m *dag.Mkfile) error {
	p, err := snapshot.ResolvePath(e.draft, m.Path, true)
	if err != nil {
		return err
	}
	own, err := e.owner(m.Owner)
	if err != nil {
		return err
	}
	if dir, err := e.draft.Lstat(path.Dir(p)); err != nil || dir.Type != snapshot.TypeDir {
		return fmt.Errorf("make file /%s: its directory does not exist", p)
	}
	if was, err := e.draft.Lstat(p); err == nil && was.Type == snapshot.TypeDir {
		return fmt.Errorf("make file /%s: it is a directory", p)
	}
	entry := snapshot.Entry{
		Path: p, Type: snapshot.TypeFile, Mode: uint32(m.Mode) & 0o777,
		Size: int64(len(m.Data)), ModTime: e.w.now(), Digest: digest.FromBytes(m.Data),
	}
	data := m.Data
	e.draft.put(e.draft.born(entry, own), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	return nil
}

func (e *editor) mkdir(m *dag.Mkdir) error {
	p, err := snapshot.ResolvePath(e.draft, m.Path, true)
	if err != nil {
		return err
	}
	own, err := e.owner(m.Owner)
	if err != nil {
		return err
	}
	like := newDirs{mode: uint32(m.Mode) & 0o777, owner: own, at: e.w.now()}
	if m.MakeParents {
		return e.draft.mkdirAll(p, like)
	}
	if _, err := e.draft.Lstat(p); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if up, err := e.draft.Lstat(path.Dir(p)); err != nil || up.Type != snapshot.TypeDir {
		return fmt.Errorf("make directory /%s: its parent does not exist", p)
	}
	e.draft.mkdirNew(p, like)
	return nil
}

func (e *editor) rm(r *dag.Rm) error {
	p, err := snapshot.ResolvePath(e.draft, r.Path, false)
	if err != nil {
		return err
	}
	if p == "." {
		return errors.New("remove /: refused")
	}
	if _, err := e.draft.Lstat(p); err != nil {
		if r.AllowNotFound && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	e.draft.remove(p)
	return nil
}

func (e *editor) symlink(s *dag.Symlink) error {
	p, err := snapshot.ResolvePath(e.draft, s.Path, false)
	if err != nil {
		return err
	}
	own, err := e.owner(s.Owner)
	if err != nil {
		return err
	}
	if _, err := e.draft.Lstat(p); err == nil {
		return fmt.Errorf("make symlink /%s: it exists", p)
	}
	e.draft.put(e.draft.born(snapshot.Entry{
		Path: p, Type: snapshot.TypeSymlink, Mode: 0o777, Linkname: s.Target, ModTime: e.w.now(),
	}, own), nil)
	return nil
}
