package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// Check implements gc.Checker: steps can be read, and everything that names and images
// lead to is here or can be fetched again.
func (k keeper) Check(_ context.Context, x *gc.Check) error {
	steps, err := k.s.steps()
	if err != nil {
		return err
	}
	for _, st := range steps {
		x.Steps++
		if st.Err != nil {
			x.Problem("step "+st.ID, st.Err, func(*snapshot.Collection) error { return k.s.removeStep(st.ID) })
		}
	}
	// Without names nothing is known of images, so that this is repaired first.
	if err := k.s.checkNames(); errors.Is(err, errdef.ErrInvalid) {
		x.Problem("names of images", err, func(*snapshot.Collection) error { return nil })
		if !x.Repairs {
			return nil
		}
		if err := k.s.dropNames(); err != nil {
			return err
		}
	}
	return k.checkImages(x)
}

func (k keeper) checkImages(x *gc.Check) error {
	all, err := k.s.holdings()
	if err != nil {
		return err
	}
	for _, img := range all {
		x.Images++
		if err := k.checkImage(x, img); err != nil {
			object := "image " + cmp.Or(strings.Join(img.Names, ", "), img.ID.String())
			x.Problem(object, err, func(*snapshot.Collection) error { return k.s.drop(img.ID) })
		}
	}
	lost, err := k.s.lostNames()
	for _, n := range lost {
		x.Problem("name "+n, errors.New("its image is not here"), func(*snapshot.Collection) error { return k.s.drop("", n) })
	}
	return err
}

func (k keeper) checkImage(x *gc.Check, img holding) error {
	if img.Err != nil {
		return img.Err
	}
	if x.BadBlob(img.ID) || !k.s.layers.Blobs().Has(img.ID) {
		return errors.New("its configuration is damaged or missing")
	}
	for _, l := range img.Stack {
		if (x.BadLayer(l.ID) || !k.s.layers.Has(l.ID)) && !k.s.Fetchable(l.DiffID) {
			return fmt.Errorf("layer %s is damaged or missing, and no registry is known to have it", l.ID)
		}
	}
	return nil
}

var _ gc.Checker = keeper{}
