package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"layered.build/builder/cache/disk"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/portable"
)

// The folders of a store that others own.
const (
	imagesFolder = "images"
	runsFolder   = "runs"
	buildsFolder = "builds"
)

// Export writes the store in a form that any other user and machine can read (package
// portable), while others may use it: images, kept runs, builds, the build cache, layers and
// cache mounts. Of cache mounts those that somebody is working with are left out, and told.
func (e *Engine) Export(ctx context.Context, w io.Writer) error {
	held, err := e.Store.Lease().Hold(ctx)
	if err != nil {
		return err
	}
	defer held.Release()
	out, err := portable.NewWriter(w, e.Root())
	if err != nil {
		return err
	}
	// What names layers is read before them: those that are named then are here and stay.
	for _, name := range []string{imagesFolder, runsFolder, buildsFolder, disk.Folder} {
		if err := out.Add(ctx, e.Store.Maker(), name, isLeft); err != nil {
			return fmt.Errorf("export store: %w", err)
		}
	}
	for _, add := range []func(context.Context, *portable.Writer) error{e.exportMounts, e.exportLayers, e.exportBlobs} {
		if err := add(ctx, out); err != nil {
			return fmt.Errorf("export store: %w", err)
		}
	}
	return out.Close()
}

// isLeft says what means something on this machine only, or may not leave it.
func isLeft(name string) bool {
	switch name {
	case imagesFolder + "/lock", imagesFolder + "/tmp", disk.Folder + "/locks", disk.Folder + "/salt":
		return true
	}
	dir, base := path.Split(name)
	return strings.HasPrefix(dir, runsFolder+"/") && base == "lock"
}

// justFolder leaves out all that is in a folder.
func justFolder(folder string) func(string) bool {
	return func(name string) bool { return name != folder }
}

func (e *Engine) exportMounts(ctx context.Context, out *portable.Writer) error {
	mounts, err := cachemount.List(e.Root())
	if err != nil {
		return err
	}
	maker := e.mountMaker()
	if err := out.Add(ctx, maker, cachemount.Folder, justFolder(cachemount.Folder)); err != nil {
		return err
	}
	for _, m := range mounts {
		lock, err := files.TryLockExisting(m.Lock(), files.Exclusive)
		if errors.Is(err, files.ErrLocked) {
			e.host.opts.Warn(fmt.Sprintf("cache mount %s is in use, and left out", m.ID))
			continue
		}
		if err != nil {
			return err
		}
		name := path.Join(cachemount.Folder, path.Base(m.Dir))
		err = out.Add(ctx, maker, path.Join(cachemount.Folder, path.Base(m.Lock())), nil)
		if err == nil {
			err = out.Add(ctx, maker, name, nil)
		}
		if err = errors.Join(err, lock.Release()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) exportLayers(ctx context.Context, out *portable.Writer) error {
	ids, err := e.Store.IDs()
	if err != nil {
		return err
	}
	if err := out.Add(ctx, e.Store.Maker(), snapshot.LayersFolder, justFolder(snapshot.LayersFolder)); err != nil {
		return err
	}
	for _, id := range ids {
		// The lock keeps the layer's form from changing.
		lock, err := e.Store.Lease().Lock(ctx, string(id))
		if err != nil {
			return err
		}
		err = e.Store.Mend(id)
		if err == nil {
			err = out.Add(ctx, e.Store.Maker(), path.Join(snapshot.LayersFolder, string(id)), nil)
		}
		if err = errors.Join(err, lock.Remove()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) exportBlobs(ctx context.Context, out *portable.Writer) error {
	all, err := e.Store.Blobs().All()
	if err != nil {
		return err
	}
	for _, folder := range []string{path.Dir(snapshot.BlobsFolder), snapshot.BlobsFolder} {
		if err := out.Add(ctx, e.Store.Maker(), folder, justFolder(folder)); err != nil {
			return err
		}
	}
	for _, d := range all {
		if err := out.Add(ctx, e.Store.Maker(), path.Join(snapshot.BlobsFolder, d.Encoded()), nil); err != nil {
			return err
		}
	}
	return nil
}
