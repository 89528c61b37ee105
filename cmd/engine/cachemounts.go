package engine

import (
	"context"
	"errors"
	"fmt"

	units "github.com/docker/go-units"

	"layered.build/builder/cache/mounts/carry"
	"layered.build/builder/cmd/collect"
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
		Grow:  e.growMount,
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

// errScratch says that what room was made for does not stay.
var errScratch = errors.New("it was there for a while")

// growMount makes room for the content of a cache mount, and for what is there while it is
// written. What the disk has no room for is refused before anything goes for it: a content may
// say that it is as large as it likes.
func (e *Engine) growMount(ctx context.Context, bytes, scratch int64) (done func(error), err error) {
	free, err := collect.FreeSpace(e.Root())
	if err != nil {
		return nil, err
	}
	if bytes > free-scratch {
		return nil, fmt.Errorf("%w: %s are needed, and the disk has %s", ErrNoRoom, units.BytesSize(float64(bytes)+float64(scratch)), units.BytesSize(float64(free)))
	}
	stays, err := lease.Grow(ctx, e.room, bytes)
	if err != nil {
		return nil, err
	}
	gone, err := lease.Grow(ctx, e.room, scratch)
	if err != nil {
		stays(err)
		return nil, err
	}
	return func(err error) {
		gone(errScratch)
		stays(err)
	}, nil
}

// emulated reports whether processes see what is recorded of files instead of what they have.
func (h *Host) emulated() bool { return h.opts.Rung.Isolation == rootless.Chroot }
