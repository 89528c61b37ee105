package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"layered.build/builder/snapshot/changes"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
)

// WriteOptions refine WriteLayer.
type WriteOptions struct {
	// Dir says that a directory form is needed soon: files are copied into it.
	// Otherwise the layer is streamed into its tar only, and the directory is
	// made when something mounts the layer.
	Dir bool
	// Epoch, Inspect, Tap and Named are as in CommitOptions.
	Epoch   *time.Time
	Inspect Inspector
	Tap     Tap
	Named   bool
}

// WriteLayer makes a layer from a list of changes without mounting anything.
// Changes may come in any order, each path at most once. Parent directories that
// are no changes themselves are taken over from the parent stack. Where
// Entry.Digest is set and the bytes that are read differ, the error names the
// file. A hard link may name any other change of its type that is no
// directory.
func (s *Store) WriteLayer(ctx context.Context, parent Stack, changes []Change, opts WriteOptions) (Layer, error) {
	l, err := s.writeLayer(ctx, parent, changes, opts)
	tell(opts.Tap, l, err)
	if err != nil {
		return Layer{}, fmt.Errorf("write layer: %w", err)
	}
	return l, nil
}

func (s *Store) writeLayer(ctx context.Context, parent Stack, list []Change, opts WriteOptions) (_ Layer, err error) {
	set := changes.New(list, func(ctx context.Context) (Tree, error) { return s.Outline(ctx, parent) })
	if err := set.Complete(ctx); err != nil {
		return Layer{}, err
	}
	done, err := lease.Grow(ctx, s.room, set.Bytes())
	if err != nil {
		return Layer{}, err
	}
	defer func() { done(err) }()
	tmp, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return Layer{}, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.RemoveAll(tmp))
		}
	}()
	var out *os.File
	dir := ""
	opts.Dir = opts.Dir && s.driver != DriverCopy // which takes files out of tars too
	if opts.Dir {
		dir = filepath.Join(tmp, dirForm)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return Layer{}, err
		}
	} else {
		if out, err = os.OpenFile(filepath.Join(tmp, tarForm), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return Layer{}, err
		}
		defer out.Close()
	}
	walk := func(_ context.Context, emit func(pack.Item) error) error { return set.Walk(dir, opts.Epoch, emit) }
	m := layerMaking{tmp: tmp, out: out, epoch: opts.Epoch, look: opts.Inspect, tap: opts.Tap, named: opts.Named, walk: walk}
	m.settle = func() error {
		if opts.Dir {
			return s.maker.SetRoot(dir, object.Root{Mode: 0o755})
		}
		return nil
	}
	return s.makeLayer(ctx, parent, m)
}
