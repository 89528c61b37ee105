package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"layered.build/builder/cache/disk"
	"layered.build/builder/executor/chroot"
	"layered.build/builder/executor/local"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/runc"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// registryFlags say how registries are reached.
type registryFlags struct {
	insecure []string
	mirrors  []string
	retry    registry.Retry
}

func (r *registryFlags) register(fs *pflag.FlagSet) {
	sliceVar(fs, &r.insecure, "insecure-registry", "", "registry that may be reached by http or without a valid certificate")
	sliceVar(fs, &r.mirrors, "registry-mirror", "", "mirror, REGISTRY=URL (docker.io=http://127.0.0.1:5000)")
}

// storeRoot is the folder of the store.
func (a *app) storeRoot() (string, error) {
	dir := a.root
	if dir == "" {
		dir = os.Getenv("BUILDER_ROOT")
	}
	switch data := os.Getenv("XDG_DATA_HOME"); {
	case dir != "":
	case rootless.HostUID() == 0:
		dir = "/var/lib/builder"
	case data != "":
		dir = filepath.Join(data, "builder")
	default:
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the store: %w", err)
		}
		dir = filepath.Join(home, ".local", "share", "builder")
	}
	return filepath.Abs(dir)
}

// engine is one store and what works on it.
type engine struct {
	root   string
	store  *snapshot.Store
	images *registry.Images
	client *registry.Client
	cache  *disk.Cache
	// isolation is how processes are run.
	isolation rootless.Isolation
	ownUsers  bool      // in a user namespace of their own
	sandbox   processes // nil until openSandbox
}

// processes is a sandbox that cleans up.
type processes interface {
	sandbox.Sandbox
	// Reclaim removes what killed processes left.
	Reclaim(context.Context) error
	// LimitNotes says which limits cannot be kept as they are asked for.
	LimitNotes(l dag.Limits, ulimits []dag.Ulimit) []string
	Close() error
}

// openEngine opens the store and what needs no privileges.
func (a *app) openEngine() (*engine, error) {
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	driver, err := a.snapshotDriver(root)
	if err != nil {
		return nil, err
	}
	e := &engine{root: root, isolation: a.isolation, ownUsers: a.ownUsers}
	if e.store, err = snapshot.Open(root, snapshot.Options{Driver: driver, Emulated: a.isolation == rootless.Chroot}); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := e.open(a); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

func (e *engine) open(a *app) error {
	var err error
	if e.images, err = registry.OpenImages(e.store); err != nil {
		return fmt.Errorf("open images: %w", err)
	}
	e.client, err = registry.New(e.store, e.images, registry.Options{
		Mirrors: a.reg.mirrors, Insecure: a.reg.insecure, UserAgent: "builder/" + a.version, Retry: a.reg.retry,
	})
	if err != nil {
		return err
	}
	if e.cache, err = disk.Open(filepath.Join(e.root, "cache"), e.store.Has); err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	e.store.SetRoom(&roomKeeper{e: e})
	return nil
}

// openSandbox prepares running processes, and removes what killed processes
// left. All processes together stay within a limit.
func (e *engine) openSandbox(total dag.Limits) error {
	if err := os.MkdirAll(e.path("sandbox"), 0o700); err != nil {
		return fmt.Errorf("prepare the sandbox: %w", err)
	}
	open := e.openRunc
	if e.isolation == rootless.Chroot {
		open = openChroot
	}
	sb, err := open(e.path("sandbox"), total)
	if err != nil {
		return fmt.Errorf("prepare the sandbox: %w", err)
	}
	e.sandbox = sb
	return nil
}

func (e *engine) openRunc(dir string, total dag.Limits) (processes, error) {
	return runc.New(runc.Options{StateDir: dir, Total: total, UserNamespaces: e.ownUsers, Store: e.root})
}

func openChroot(dir string, total dag.Limits) (processes, error) {
	return chroot.New(chroot.Options{StateDir: dir, Total: total})
}

// sizeNotes says it if the sizes of file systems in memory cannot be kept.
func (e *engine) sizeNotes(asked bool) []string {
	if n, ok := e.sandbox.(interface{ SizeNote() string }); ok && asked {
		return []string{n.SizeNote()}
	}
	return nil
}

// reclaim removes what killed processes left. What cannot be removed is told and
// does not stop the work: the next start tries again.
func (e *engine) reclaim(ctx context.Context, warn io.Writer) {
	left, err := e.store.Abandoned()
	errs := []error{err, sandbox.KillUsers(left)}
	local.Reclaim(e.store)
	errs = append(errs, e.store.Reclaim(ctx))
	if e.sandbox != nil {
		errs = append(errs, e.sandbox.Reclaim(ctx))
	}
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		fmt.Fprintf(warn, "WARN: remove what a killed process left: %v\n", err)
	}
}

// Close releases the store.
func (e *engine) Close() error {
	var errs []error
	if e.sandbox != nil {
		errs = append(errs, e.sandbox.Close())
	}
	return errors.Join(append(errs, e.store.Close())...)
}

// withEngine runs fn on the store.
func (a *app) withEngine(fn func(*engine) error) error {
	e, err := a.openEngine()
	if err != nil {
		return err
	}
	err = fn(e)
	if e.store.Written() > 0 {
		a.autoCollect(context.Background(), e)
	}
	return errors.Join(err, e.Close())
}
