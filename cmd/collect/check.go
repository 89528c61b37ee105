package collect

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/cache/disk"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// Problem is one thing that is wrong with a store.
type Problem struct {
	Object string // "layer …", "blob …", "record …", "step …", "image …", "name …"
	Err    error
	repair func(*snapshot.Collection) error
}

// CheckOptions say how a store is checked.
type CheckOptions struct {
	// Quick leaves out what reads all content: layers' tars.
	Quick bool
	// Repair removes what is wrong, so that it is as if it had never been made.
	Repair bool
	// Report is told of every problem as it is found.
	Report func(Problem)
}

// Checked counts what was looked at.
type Checked struct {
	Layers, Blobs, Records, Steps, Images int
	Problems                              int
}

type checking struct {
	s     *Store
	o     CheckOptions
	n     Checked
	fixes []Problem
	bad   map[snapshot.LayerID]bool
	blobs map[digest.Digest]bool // bad
}

// Check verifies a store: every layer, blob, record, and what images refer to.
func (s *Store) Check(ctx context.Context, o CheckOptions) (Checked, error) {
	c := &checking{s: s, o: o, bad: map[snapshot.LayerID]bool{}, blobs: map[digest.Digest]bool{}}
	for _, part := range []func(context.Context) error{c.layers, c.content, c.records, c.steps, c.runs, c.images} {
		if err := part(ctx); err != nil {
			return c.n, fmt.Errorf("check store: %w", err)
		}
	}
	if !o.Repair || len(c.fixes) == 0 {
		return c.n, nil
	}
	err := s.Layers.Collect(ctx, func(col *snapshot.Collection) error {
		var errs []error
		for _, p := range c.fixes {
			errs = append(errs, p.repair(col))
		}
		return errors.Join(errs...)
	})
	return c.n, err
}

func (c *checking) problem(object string, err error, repair func(*snapshot.Collection) error) {
	p := Problem{Object: object, Err: err, repair: repair}
	c.n.Problems++
	c.fixes = append(c.fixes, p)
	c.o.Report(p)
}

func (c *checking) layers(ctx context.Context) error {
	all, err := c.s.Layers.Survey()
	if err != nil {
		return err
	}
	for _, l := range all {
		err := c.s.Layers.Check(ctx, l.ID, c.o.Quick)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		c.n.Layers++
		if err != nil {
			c.bad[l.ID] = true
			c.problem("layer "+string(l.ID), err, func(col *snapshot.Collection) error { return col.RemoveBroken(l.ID) })
		}
	}
	return nil
}

// content verifies blobs.
func (c *checking) content(ctx context.Context) error {
	all, err := c.s.Layers.Blobs().All()
	if err != nil {
		return err
	}
	for _, d := range all {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := c.blob(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c.n.Blobs++
		if err != nil {
			c.blobs[d] = true
			c.problem("blob "+d.String(), err, func(*snapshot.Collection) error { return c.s.Layers.Blobs().Remove(d) })
		}
	}
	return nil
}

func (c *checking) blob(d digest.Digest) error {
	f, err := c.s.Layers.Blobs().Open(d)
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

func (c *checking) records(ctx context.Context) error {
	return c.s.Cache.List(ctx, func(e disk.Entry) error {
		c.n.Records++
		err := e.Err
		if err == nil {
			err = c.stacks(e.Record.Outputs)
		}
		if err != nil {
			c.problem("record "+string(e.Key), err, func(*snapshot.Collection) error { return c.s.Cache.Remove(cache.Key(e.Key)) })
		}
		return nil
	})
}

// stacks finds a bad layer in what something names. One that is not here is not
// bad: it is fetched, or the record is a miss.
func (c *checking) stacks(stacks []snapshot.Stack) error {
	for _, stack := range stacks {
		for _, l := range stack {
			if c.bad[l.ID] {
				return fmt.Errorf("needs the damaged layer %s", l.ID)
			}
		}
	}
	return nil
}

func (c *checking) steps(context.Context) error {
	all, err := c.s.Images.Steps()
	if err != nil {
		return err
	}
	for _, st := range all {
		c.n.Steps++
		if st.Err != nil {
			c.problem("step "+st.ID, st.Err, func(*snapshot.Collection) error { return c.s.Images.RemoveStep(st.ID) })
		}
	}
	return nil
}

// runs verifies the records of kept runs. A folder without one belongs to a run that
// begins or ends.
func (c *checking) runs(context.Context) error {
	root := c.s.Layers.Root()
	found, err := filepath.Glob(filepath.Join(root, "runs", "*", "run.json"))
	if err != nil {
		return err
	}
	for _, path := range found {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && json.Valid(data) {
			continue
		}
		dir := filepath.Dir(path)
		c.problem("run "+filepath.Base(dir), errors.Join(errors.New("its record is damaged"), err), func(col *snapshot.Collection) error {
			return col.Discard(dir)
		})
	}
	return nil
}

// images verifies that everything that names and images lead to is here, or can
// be fetched again.
func (c *checking) images(context.Context) error {
	// Without names nothing is known of images, so that this is repaired first.
	if err := c.s.Images.CheckNames(); errors.Is(err, registry.ErrInvalid) {
		c.problem("names of images", err, func(*snapshot.Collection) error { return nil })
		if !c.o.Repair {
			return nil
		}
		if err := c.s.Images.DropNames(); err != nil {
			return err
		}
	}
	all, err := c.s.Images.Holdings()
	if err != nil {
		return err
	}
	for _, img := range all {
		c.n.Images++
		if err := c.image(img); err != nil {
			object := "image " + cmp.Or(strings.Join(img.Names, ", "), img.ID.String())
			c.problem(object, err, func(*snapshot.Collection) error { return c.s.Images.Drop(img.ID) })
		}
	}
	lost, err := c.s.Images.LostNames()
	for _, n := range lost {
		c.problem("name "+n, errors.New("its image is not here"), func(*snapshot.Collection) error { return c.s.Images.Drop("", n) })
	}
	return err
}

func (c *checking) image(img registry.Holding) error {
	if img.Err != nil {
		return img.Err
	}
	if c.blobs[img.ID] || !c.s.Layers.Blobs().Has(img.ID) {
		return errors.New("its configuration is damaged or missing")
	}
	for _, l := range img.Stack {
		if (c.bad[l.ID] || !c.s.Layers.Has(l.ID)) && !c.s.Images.Fetchable(l.DiffID) {
			return fmt.Errorf("layer %s is damaged or missing, and no registry is known to have it", l.ID)
		}
	}
	return nil
}
