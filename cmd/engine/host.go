package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"layered.build/builder/cache/disk"
	"layered.build/builder/executor"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/snapshot"
)

// Options say how a process works.
type Options struct {
	// Root is the folder of the store. Required.
	Root string
	// Rung is how far this process can isolate steps.
	Rung Rung
	// Processes is how many processes of all builds run at once; 0: one for each CPU.
	Processes int
	// Version is sent to registries.
	Version string
	// Getenv reads the settings of the environment; nil: there are none.
	Getenv func(string) string
	// Warn is told of what went wrong and does not stop the work; nil: nobody is. It is
	// called from several goroutines.
	Warn func(text string)
}

// Rung is a step of the ladder of isolation (docs/ARCHITECTURE.md), which this process
// stands on.
type Rung struct {
	Isolation rootless.Isolation
	// OwnUsers gives every process of root a user namespace of its own.
	OwnUsers bool
	// Lack, unless nil, says why no process can run here.
	Lack error
}

// Host is what a process has once. It is safe for concurrent use.
type Host struct {
	opts   Options
	slots  *executor.Slots
	budget func() (Budget, error) // read once
}

// NewHost returns the host of this process.
func NewHost(o Options) (*Host, error) {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	var err error
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return nil, fmt.Errorf("find the store: %w", err)
	}
	h := &Host{opts: o, slots: executor.NewSlots(o.Processes)}
	h.budget = sync.OnceValues(h.readBudget)
	return h, nil
}

// Root is the folder of the store.
func (h *Host) Root() string { return h.opts.Root }

// Slots bound what the builds of this process do at once.
func (h *Host) Slots() *executor.Slots { return h.slots }

// Rung is the one that this process stands on.
func (h *Host) Rung() Rung { return h.opts.Rung }

// Version is the program's.
func (h *Host) Version() string { return h.opts.Version }

// DefaultRoot is the folder of the store where none is named: $BUILDER_ROOT, else
// /var/lib/builder for root, else below $XDG_DATA_HOME or the home folder. A variable that
// names no folder is a mistake: a store elsewhere would look empty.
func DefaultRoot(getenv func(string) string) (string, error) {
	switch dir, data := getenv("BUILDER_ROOT"), getenv("XDG_DATA_HOME"); {
	case dir != "":
		return dir, nil
	case rootless.HostUID() == 0:
		return "/var/lib/builder", nil
	case data != "":
		return filepath.Join(data, "builder"), needFolder("XDG_DATA_HOME", data)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", mistake.New("there is no place for the store: %w", err).WithHint(nameRoot)
	}
	return filepath.Join(home, ".local", "share", "builder"), needFolder("HOME", home)
}

const nameRoot = "name a folder with --root or $BUILDER_ROOT"

// needFolder refuses what is there and no folder.
func needFolder(variable, dir string) error {
	if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
		return mistake.New("there is no place for the store: %s=%s is no folder", variable, dir).WithHint(nameRoot)
	}
	return nil
}

// Access says how registries are reached, for one request.
type Access struct {
	// Mirrors and Insecure are those of registry.Options.
	Mirrors, Insecure []string
	// Verify and CertDir are those of registry.Options.
	Verify  *bool
	CertDir string
	Retry   registry.Retry
	// Credentials are those of who asks; nil: the user's of this process.
	Credentials credentials.Source
}

// Open opens the store for one request, and what needs no privileges. The caller closes
// the engine.
func (h *Host) Open(_ context.Context, access Access) (*Engine, error) {
	driver, err := h.driver()
	if err != nil {
		return nil, err
	}
	e := &Engine{host: h}
	if e.Store, err = snapshot.Open(h.opts.Root, snapshot.Options{Driver: driver, Emulated: h.emulated()}); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := e.open(access); err != nil {
		return nil, errors.Join(err, e.Store.Close())
	}
	return e, nil
}

func (e *Engine) open(access Access) error {
	var err error
	if e.Images, err = registry.OpenImages(e.Store); err != nil {
		return fmt.Errorf("open images: %w", err)
	}
	e.Client, err = registry.New(e.Store, e.Images, registry.Options{
		Mirrors: access.Mirrors, Insecure: access.Insecure, Verify: access.Verify, CertDir: access.CertDir, Retry: access.Retry, Credentials: access.Credentials,
		UserAgent: "builder/" + e.host.opts.Version, Warn: e.host.opts.Warn,
	})
	if err != nil {
		return err
	}
	if e.Cache, err = disk.Open(e.path(disk.Folder), e.Store.Has); err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	e.room = &roomKeeper{e: e}
	e.Store.SetRoom(e.room)
	return nil
}

// driver is how stacks become root file systems in the store:
// $BUILDER_SNAPSHOT_DRIVER, else the fastest that works on this rung.
func (h *Host) driver() (snapshot.Driver, error) {
	if name := h.opts.Getenv("BUILDER_SNAPSHOT_DRIVER"); name != "" && name != "auto" {
		d, err := snapshot.ParseDriver(name)
		if err != nil {
			return "", mistake.New("BUILDER_SNAPSHOT_DRIVER: %w", err)
		}
		return d, nil
	}
	if h.opts.Rung.Isolation == rootless.Chroot {
		return snapshot.DriverCopy, nil
	}
	d, _, err := snapshot.ChooseDriver(h.opts.Root)
	return d, err
}
