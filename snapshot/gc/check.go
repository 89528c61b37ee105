package gc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/layerdir"
)

// Checker is a keeper that can verify what it keeps.
type Checker interface {
	Keeper
	// Check verifies all that the keeper has, and tells x what is wrong. It fails only if
	// it cannot find out.
	Check(ctx context.Context, x *Check) error
}

// Problem is one thing that is wrong with a store.
type Problem struct {
	Object string // "layer …", "blob …", "record …", "step …", "run …", "image …", "name …"
	Err    error
	// Repair removes it, within a collection.
	Repair func(*snapshot.Collection) error
}

// Checked counts what was looked at.
type Checked struct {
	Layers, Blobs, Records, Steps, Images int
	Problems                              int
}

// Check is a verification of a store, which its keepers carry out one after the other:
// that of the layers and blobs first.
type Check struct {
	// Quick leaves out what reads all content: layers' tars.
	Quick bool
	// Repairs: what is wrong will be repaired.
	Repairs bool
	// Report is told of every problem as it is found.
	Report func(Problem)

	Checked
	badLayers map[snapshot.LayerID]bool
	badBlobs  map[digest.Digest]bool
}

// Problem counts and reports a problem.
func (x *Check) Problem(object string, err error, repair func(*snapshot.Collection) error) {
	x.Problems++
	x.Report(Problem{Object: object, Err: err, Repair: repair})
}

// BadLayer reports whether a layer is damaged. One that is not here is not bad.
func (x *Check) BadLayer(id snapshot.LayerID) bool { return x.badLayers[id] }

// BadBlob reports whether a blob is damaged. One that is not here is not bad.
func (x *Check) BadBlob(d digest.Digest) bool { return x.badBlobs[d] }

// Check implements Checker.
func (k layers) Check(ctx context.Context, x *Check) error {
	x.badLayers, x.badBlobs = map[snapshot.LayerID]bool{}, map[digest.Digest]bool{}
	ids, err := k.s.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		err := k.s.Check(ctx, id, x.Quick)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		x.Layers++
		if errors.Is(err, layerdir.ErrDirectory) && (!x.Repairs || k.s.Restore(ctx, id) == nil) {
			// Its content is whole: nothing that needs it is lost.
			x.Problem("layer "+string(id), err, func(*snapshot.Collection) error { return nil })
			continue
		}
		if err != nil {
			x.badLayers[id] = true
			x.Problem("layer "+string(id), err, func(c *snapshot.Collection) error { return c.RemoveBroken(id) })
		}
	}
	return k.checkBlobs(ctx, x)
}

func (k layers) checkBlobs(ctx context.Context, x *Check) error {
	all, err := k.s.Blobs().All()
	if err != nil {
		return err
	}
	for _, d := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := k.checkBlob(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		x.Blobs++
		if err != nil {
			x.badBlobs[d] = true
			x.Problem("blob "+d.String(), err, func(*snapshot.Collection) error { return k.s.Blobs().Remove(d) })
		}
	}
	return nil
}

func (k layers) checkBlob(d digest.Digest) error {
	f, err := k.s.Blobs().Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := digest.SHA256.Digester()
	if _, err := io.Copy(h.Hash(), f); err != nil {
		return err
	}
	if h.Digest() != d {
		return fmt.Errorf("%w: the file holds %s", snapshot.ErrDigest, h.Digest())
	}
	return nil
}

var _ Checker = layers{}
