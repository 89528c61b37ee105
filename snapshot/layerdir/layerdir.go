// Package layerdir compares the directory of a layer with its manifest, and mends it.
package layerdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// ErrDirectory says that a layer's directory is not what was made, though its content is.
var ErrDirectory = errors.New("the layer's directory was changed, or not copied as a whole")

// Dir is the directory of a layer.
type Dir struct {
	Maker *object.Maker
	// Path and Manifest are where the directory and the manifest are.
	Path, Manifest string
}

// Check looks for an object that is not as the manifest says (object.Maker.Differs). The
// error matches ErrDirectory then.
func (d Dir) Check() error {
	return d.each(func(p, linked string, e *manifest.Entry) error {
		if d.isHidden(e) {
			return nil
		}
		differs, err := d.Maker.Differs(p, linked, e)
		if err == nil && differs != "" {
			err = fmt.Errorf("%w: /%s is %s", ErrDirectory, e.Path, differs)
		}
		return err
	})
}

// Restore gives all objects the owners, modes, attributes and types that the manifest says.
// Root, unless nil, is that of the directory itself. Scratch is an empty folder of the same
// file system.
func (d Dir) Restore(scratch string, root *object.Root) error {
	err := d.each(func(p, linked string, e *manifest.Entry) error {
		if d.isHidden(e) {
			return nil
		}
		return d.Maker.Restore(p, linked, filepath.Join(scratch, "fresh"), e)
	})
	if err != nil || root == nil {
		return err
	}
	return d.Maker.SetRoot(d.Path, *root)
}

// Complete makes what a process left out that might not make it (object.Maker.Complete).
// Scratch is an empty folder of the same file system.
func (d Dir) Complete(scratch string) error {
	return d.each(func(p, linked string, e *manifest.Entry) error {
		return d.Maker.Complete(p, linked, filepath.Join(scratch, "fresh"), e)
	})
}

// isHidden reports whether an entry is a whiteout that the directory does not have, below one
// that overlay marks as opaque: it needs none.
func (d Dir) isHidden(e *manifest.Entry) bool {
	if e.Type != manifest.TypeWhiteout {
		return false
	}
	if _, err := os.Lstat(filepath.Join(d.Path, e.Path)); !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	for p := path.Dir(e.Path); p != "."; p = path.Dir(p) {
		if _, opaque, err := object.ReadXattrs(filepath.Join(d.Path, p)); err == nil && opaque {
			return true
		}
	}
	return false
}

// each calls fn for the entries of the manifest, with the path of the object and, of a hard
// link, that of the first one.
func (d Dir) each(fn func(p, linked string, e *manifest.Entry) error) error {
	idx, err := manifest.Open(d.Manifest)
	if err != nil {
		return err
	}
	for i := range idx.Len() {
		r, err := idx.Record(i)
		if err != nil {
			return err
		}
		if r.Path == "." {
			continue
		}
		linked := ""
		if r.Hardlink != "" {
			linked = filepath.Join(d.Path, r.Hardlink)
		}
		if err := fn(filepath.Join(d.Path, r.Path), linked, &r.Entry); err != nil {
			return err
		}
	}
	return nil
}
