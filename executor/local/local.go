// Package local runs build steps on this machine.
package local

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Machine is what all builds on this machine share.
type Machine struct {
	// Store keeps the layers. Required. Cache mounts, logs and what processes need
	// while they run lie in the folders mounts, logs and run beside its own.
	Store *snapshot.Store
	// Sandbox runs processes; without one an Exec fails.
	Sandbox sandbox.Sandbox
	// Devices are those that processes may ask for by name; nil has none.
	Devices *cdi.Registry
}

// Build is what a build brings along: where its sources come from, nil for none, and how
// its layers are made.
type Build struct {
	Contexts executor.ContextSource
	Images   executor.ImageSource
	Layouts  executor.LayoutSource
	Remote   executor.RemoteSource
	Secrets  executor.Secrets
	// SecretScan says what happens if a step leaves them in its layer or log.
	SecretScan dag.SecretScan
	// Agents are the ssh agents that processes may be given.
	Agents executor.SSHAgents
	// SeccompProfiles are those that processes may name, by digest.
	SeccompProfiles map[digest.Digest][]byte
	// Epoch, if set, is the latest modification time of what new layers hold. It is
	// part of no key: what the cache has may have been made under another one, see
	// snapshot.Store.Clamp.
	Epoch *time.Time
	// Tap, if set, returns what receives the tar of the layer that a step makes on
	// below, nil for nothing. It is not asked where the layer is searched for secrets:
	// what receives a tar may send it away before the search ends.
	Tap func(step *dag.Step, below snapshot.Stack) snapshot.Tap
	// Named, if set, tells the steps whose layers an image is going to have. Others may
	// have none of the names that images know layers by (snapshot.Layer.Unnamed).
	Named func(step *dag.Step) bool
	// CacheMounts brings contents of cache mounts from elsewhere; nil: they are this
	// machine's.
	CacheMounts CacheMounts
	// Sent returns the secrets that Remote has used; nil: none.
	Sent func() map[string][]byte
}

// Worker runs the steps of one build on this machine. It is safe for concurrent use.
type Worker struct {
	machine Machine
	build   Build
	// grants are what its steps may do; whatever graph they are of, nothing else is done
	// for them. With dag.PermissionSecretLeak they may leave secrets in their layer and
	// log; such a result is not recorded, and in logs secrets are hidden all the same.
	grants dag.Grants
}

// New returns a Worker for a build that was granted some permissions.
func New(m Machine, b Build, grants dag.Grants) *Worker {
	return &Worker{machine: m, build: b, grants: grants}
}

// Run implements executor.Worker.
func (w *Worker) Run(ctx context.Context, job *executor.Job) (*executor.Outcome, error) {
	var res executor.Result
	var err error
	switch op := job.Step.Op.(type) {
	case *dag.Source:
		res, err = w.source(ctx, job, op)
	case *dag.File:
		return w.file(ctx, job, op)
	case *dag.Exec:
		return w.exec(ctx, job, op)
	case *dag.Merge:
		res.Stack = merge(job.Inputs)
	case *dag.Diff:
		res.Stack, err = diff(job.Inputs)
	default:
		err = fmt.Errorf("steps of kind %s are not supported", job.Step.Op.Kind())
	}
	if err != nil {
		return nil, err
	}
	return &executor.Outcome{Results: []executor.Result{res}}, nil
}

// tap is what receives the tar of a step's layer; nil is nothing.
func (w *Worker) tap(job *executor.Job, below snapshot.Stack, look snapshot.Inspector) snapshot.Tap {
	if w.build.Tap == nil || look != nil {
		return nil
	}
	return w.build.Tap(job.Step, below)
}

// named says whether an image is going to have a step's layer.
func (w *Worker) named(job *executor.Job) bool {
	return w.build.Named != nil && w.build.Named(job.Step)
}

// source opens a source; nothing is fetched yet.
func (w *Worker) source(ctx context.Context, job *executor.Job, op *dag.Source) (executor.Result, error) {
	switch {
	case op.Local != nil && w.build.Contexts != nil:
		tree, err := w.build.Contexts.Tree(ctx, op.Local)
		return executor.Result{Tree: tree, Reads: job.Step.Meta.Reads}, err
	case op.Image != nil && w.build.Images != nil:
		stack, err := w.build.Images.Layers(ctx, op.Image, platforms.Format(job.Step.Platform))
		return executor.Result{Stack: stack}, err
	case op.Local != nil:
		return executor.Result{}, errors.New("no build context is given")
	case (op.Git != nil || op.HTTP != nil) && w.build.Remote != nil:
		remote, err := w.build.Remote.Open(ctx, op)
		return executor.Result{Remote: remote}, err
	case op.OCILayout != nil && w.build.Layouts != nil:
		stack, err := w.build.Layouts.LayoutLayers(ctx, op.OCILayout, platforms.Format(job.Step.Platform))
		return executor.Result{Stack: stack}, err
	}
	return executor.Result{}, errors.New("no source of images is given")
}

// merge lays the stacks over each other. What a stack has in common with the
// first one is not repeated.
func merge(inputs []executor.Result) snapshot.Stack {
	var out snapshot.Stack
	for i, in := range inputs {
		if i == 0 {
			out = append(out, in.Stack...)
			continue
		}
		out = append(out, in.Stack[commonPrefix(inputs[0].Stack, in.Stack):]...)
	}
	return out
}

func commonPrefix(a, b snapshot.Stack) int {
	n := 0
	for n < len(a) && n < len(b) && a[n].ID == b[n].ID {
		n++
	}
	return n
}

// diff returns the layers that the second stack has over the first.
func diff(inputs []executor.Result) (snapshot.Stack, error) {
	if len(inputs) != 2 {
		return nil, fmt.Errorf("a diff has 2 inputs, not %d", len(inputs))
	}
	lower, upper := inputs[0].Stack, inputs[1].Stack
	if commonPrefix(lower, upper) != len(lower) {
		return nil, errors.New("diffs of file systems that do not build on each other are not supported yet")
	}
	return upper[len(lower):], nil
}

// tree returns the files of an input.
func (w *Worker) tree(ctx context.Context, in executor.Result) (snapshot.Tree, error) {
	return filesOf(ctx, in, w.machine.Store.Tree)
}

// outline is tree for those who may need no file's content: layers that are not on this
// machine are not fetched if it is known what they have (snapshot.Store.Outline).
func (w *Worker) outline(ctx context.Context, in executor.Result) (snapshot.Tree, error) {
	return filesOf(ctx, in, w.machine.Store.Outline)
}

func filesOf(ctx context.Context, in executor.Result, of func(context.Context, snapshot.Stack) (snapshot.Tree, error)) (snapshot.Tree, error) {
	if in.Tree != nil {
		return in.Tree, nil
	}
	if in.Remote != nil {
		return in.Remote.Files(ctx)
	}
	if len(in.Stack) == 0 {
		return emptyTree{}, nil
	}
	return of(ctx, in.Stack)
}

// folder returns one of the worker's own folders in the store.
func (w *Worker) folder(name string) string { return filepath.Join(w.machine.Store.Root(), name) }

// now is the time of what a step makes by itself. It is never before the epoch, so
// that under the epoch it is the epoch.
func (w *Worker) now() time.Time {
	now := time.Now()
	if w.build.Epoch != nil && w.build.Epoch.After(now) {
		return *w.build.Epoch
	}
	return now
}

var _ executor.Worker = (*Worker)(nil)
