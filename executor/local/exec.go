package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor"
	"layered.build/builder/executor/leak"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// exec runs a process on a writable snapshot and makes a layer of what it changed.
func (w *Worker) exec(ctx context.Context, job *executor.Job, op *dag.Exec) (_ *executor.Outcome, err error) {
	if err := w.refuse(job.Step); err != nil {
		return nil, err
	}
	root, readOnly := rootInput(job, op)
	active, err := w.machine.Store.Prepare(ctx, root.Stack)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, active.Discard()) }()
	guard := w.newGuard()
	spec, err := w.spec(ctx, job, op, root, guard)
	if err != nil {
		return nil, err
	}
	if err := w.addDevices(op, spec); err != nil {
		return nil, err
	}
	spec.Root, spec.ReadOnlyRoot = active.Mount(), readOnly
	mounts := &mounter{w: w, job: job, guard: guard}
	defer func() {
		err = errors.Join(err, mounts.discard())
		mounts.tellUsed(err == nil)
	}()
	usage, err := w.runProcess(ctx, mounts, op, spec)
	if err != nil {
		return nil, err
	}
	look := guard.Inspector()
	commit := func(a *snapshot.Active, below snapshot.Stack, tap snapshot.Tap) (executor.Result, error) {
		l, err := a.Commit(ctx, snapshot.CommitOptions{Epoch: w.build.Epoch, Inspect: look, Tap: tap, Named: w.named(job)})
		return executor.Result{Stack: append(slices.Clone(below), l)}, leakOnly(err)
	}
	results := make([]executor.Result, job.Step.Outputs())
	if results[0], err = commit(active, root.Stack, w.tap(job, root.Stack, look)); err != nil {
		return nil, err
	}
	for n, out := range mounts.outputs {
		if results[n] = out.result; out.active == nil {
			continue
		}
		if results[n], err = commit(out.active, out.result.Stack, nil); err != nil {
			return nil, err
		}
	}
	warn(job, guard.Warnings("it is allowed, but not cached")...)
	return &executor.Outcome{Passing: guard.Leaked(), Results: results, Usage: usage}, nil
}

func (w *Worker) newGuard() *leak.Guard {
	return leak.New(w.build.SecretScan, w.grants.Has(dag.PermissionSecretLeak))
}

// fetchGuard is the guard of a step without a process: if it reads what was fetched
// from elsewhere, the secrets that were used for that.
func (w *Worker) fetchGuard(job *executor.Job) *leak.Guard {
	if w.build.Sent == nil || !slices.ContainsFunc(job.Inputs, func(in executor.Result) bool { return in.Remote != nil }) {
		return w.newGuard()
	}
	return leak.NewStrict(w.build.SecretScan, w.grants.Has(dag.PermissionSecretLeak), w.build.Sent())
}

// Allow implements executor.Worker.
func (w *Worker) Allow(step *dag.Step) error {
	op, ok := step.Op.(*dag.Exec)
	if !ok {
		return nil
	}
	if p, lacks := w.grants.Lacks(op, w.registered); lacks {
		return &executor.NotAllowedError{Permission: p}
	}
	if len(op.NetworkAllow) > 0 && op.Network != dag.NetDefault {
		return fmt.Errorf("the allowed hosts of network %q cannot be limited: it is not the step's own", op.Network)
	}
	return step.Meta.Limits.Validate()
}

// refuse names what this worker does not do, or is not allowed to.
func (w *Worker) refuse(step *dag.Step) error {
	if w.machine.Sandbox == nil {
		return errors.New("no sandbox is available to run processes")
	}
	return w.Allow(step)
}

// registered reports whether this machine has a device of a name.
func (w *Worker) registered(device string) bool {
	return w.machine.Devices != nil && len(w.machine.Devices.Find(device)) > 0
}

// rootInput returns the root file system, which is the input mounted at "/".
func rootInput(job *executor.Job, op *dag.Exec) (res executor.Result, readOnly bool) {
	for _, m := range op.Mounts {
		if m.Dest == "/" {
			if m.Input >= 0 && m.Input < len(job.Inputs) {
				res = job.Inputs[m.Input]
			}
			return res, m.ReadOnly
		}
	}
	return res, false
}

// spec describes the process, without its mounts.
func (w *Worker) spec(ctx context.Context, job *executor.Job, op *dag.Exec, root executor.Result, g *leak.Guard) (*sandbox.Spec, error) {
	tree, err := w.tree(ctx, root)
	if err != nil {
		return nil, err
	}
	user, home, err := sandbox.ResolveUser(tree, op.User)
	if err != nil {
		return nil, err
	}
	env, err := w.environ(ctx, job, op, home, g)
	if err != nil {
		return nil, err
	}
	var profile []byte
	if c := op.Confine; c != nil && c.Seccomp != "" && c.Seccomp != dag.SeccompUnconfined {
		if profile = w.build.SeccompProfiles[digest.Digest(c.Seccomp)]; profile == nil {
			return nil, fmt.Errorf("the seccomp profile %s is not here", c.Seccomp)
		}
	}
	return &sandbox.Spec{
		ID: newID(), Args: op.Args, Env: env, Cwd: op.Cwd, User: user, Hostname: op.Hostname,
		Hosts: op.Hosts, Ulimits: op.Ulimits, Network: op.Network, Security: op.Security,
		Confine: op.Confine, SeccompProfile: profile,
		Limits: job.Step.Meta.Limits, ShmSize: op.ShmSize,
		DNS: op.DNS, NetworkAllow: op.NetworkAllow, CapAdd: op.CapAdd, CapDrop: op.CapDrop,
	}, nil
}

// environ returns the process's variables. What the image sets wins over what is
// added here.
func (w *Worker) environ(ctx context.Context, job *executor.Job, op *dag.Exec, home string, g *leak.Guard) ([]string, error) {
	env := slices.Clone(op.Env)
	add := func(kv string) {
		name, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(env, func(have string) bool { return strings.HasPrefix(have, name+"=") }) {
			env = append(env, kv)
		}
	}
	add(defaultPath)
	add("HOME=" + home)
	for _, kv := range job.Step.Meta.ProxyEnv {
		add(kv)
	}
	for _, s := range op.SecretEnv {
		value, _, err := w.secret(ctx, s.ID, s.Required)
		if err != nil {
			return nil, err
		}
		g.Hand(s.ID, value)
		// One that is not there is an empty variable, as with BuildKit.
		env = append(env, s.Name+"="+string(value))
	}
	return env, nil
}

// secret fetches a secret. One that is not there is only an error if required.
func (w *Worker) secret(ctx context.Context, id string, required bool) (value []byte, ok bool, err error) {
	err = fs.ErrNotExist
	if w.build.Secrets != nil {
		value, err = w.build.Secrets.Secret(ctx, id)
	}
	switch {
	case err == nil:
		return value, true, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, false, fmt.Errorf("secret %s: %w", id, err)
	case required:
		return nil, false, &executor.MissingSecretError{ID: id}
	}
	return nil, false, nil
}

// runProcess mounts what the process sees, runs it, and judges how it ended.
func (w *Worker) runProcess(ctx context.Context, mounts *mounter, op *dag.Exec, spec *sandbox.Spec) (_ *executor.Usage, err error) {
	job, g := mounts.job, mounts.guard
	defer func() { err = errors.Join(err, mounts.close()) }()
	if err := mounts.add(ctx, op, spec); err != nil {
		return nil, err
	}
	out, err := w.newLog(spec.ID, job)
	if err != nil {
		return nil, err
	}
	hide := g.Masks()
	spec.Stdout, spec.Stderr = hide.Wrap(out.stream(1)), hide.Wrap(out.stream(2))
	if len(op.NetworkAllow) > 0 {
		spec.Denied = tellDenied(hide.Wrap(out.stream(2)))
	}
	begin := time.Now()
	exit, err := w.timed(ctx, spec)
	usage := usageOf(exit, time.Since(begin))
	usage.Contacts = g.Contacts(exit.Contacts)
	if cerr := errors.Join(hide.Close(), out.close()); err == nil {
		err = cerr
	}
	failure, err := judge(op, spec.Limits, exit, err)
	if err != nil {
		return nil, err
	}
	if failure == nil {
		if err := hide.Leaks(); err != nil {
			failure = &executor.StepError{Err: err}
		}
	}
	if failure == nil {
		warnOfLimits(job, spec.Limits, exit)
		return usage, nil
	}
	failure.LogTail, failure.LogPath, failure.Usage = out.lastLines(), out.path, usage
	return usage, failure
}

// leakOnly is the secret that an error is about, if it is about one: what was being
// done when it was found does not matter.
func leakOnly(err error) error {
	var found *executor.LeakError
	if errors.As(err, &found) {
		return found
	}
	return err
}

func warn(job *executor.Job, texts ...string) {
	if job.Observer == nil {
		return
	}
	for _, text := range texts {
		job.Observer(executor.Event{Type: executor.EventWarning, Data: []byte(text)})
	}
}

// tellDenied says in a step's log which hosts it must not talk to.
func tellDenied(log io.Writer) func(executor.Contact) {
	var mu sync.Mutex // guards log
	return func(c executor.Contact) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(log, "[network] %s is not among the hosts of --network-allow\n", c.Host())
	}
}

// newID returns a name that is unique on the machine.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return "builder-" + hex.EncodeToString(b[:])
}
