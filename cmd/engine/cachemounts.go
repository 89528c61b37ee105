package engine

import (
	"context"

	"layered.build/builder/cache/mounts/carry"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/object"
)

// Carrying is how the store's cache mounts are carried to shared caches and back; where from,
// and how that is shown, is the caller's to add.
func (e *Engine) Carrying() carry.Options {
	return carry.Options{
		Maker: e.mountMaker(),
		Grow: func(ctx context.Context, bytes int64) (func(error), error) {
			return lease.Grow(ctx, e.room, bytes)
		},
		Hold: func(dir string) (func() error, error) {
			lock, err := cachemount.Mount{Dir: dir}.Hold()
			if err != nil {
				return nil, err
			}
			return lock.Release, nil
		},
	}
}

// mountMaker makes what cache mounts hold.
func (e *Engine) mountMaker() *object.Maker {
	maker := object.NewMaker()
	if e.host.emulated() {
		maker = maker.ForProcesses()
	}
	return maker
}

// emulated reports whether processes see what is recorded of files instead of what they have.
func (h *Host) emulated() bool { return h.opts.Rung.Isolation == rootless.Chroot }
