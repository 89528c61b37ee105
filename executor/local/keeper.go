package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"layered.build/builder/executor/cachemount"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/gc"
)

// The folders of the worker in a store.
const (
	mountsFolder = cachemount.Folder
	logsFolder   = "logs" // what processes wrote
	runFolder    = "run"  // what processes need while they run
)

// keeper looks after the cache mounts and logs of a store.
type keeper struct{ store *snapshot.Store }

// Keeper returns the keeper of the cache mounts and logs in a store.
func Keeper(store *snapshot.Store) gc.Keeper { return keeper{store} }

// Folders implements gc.Keeper.
func (keeper) Folders() []gc.Folder {
	return []gc.Folder{{Name: mountsFolder, Depth: 1}, {Name: logsFolder, Depth: 1}}
}

// Items implements gc.Keeper.
func (k keeper) Items(context.Context) (gc.Contents, error) {
	var out gc.Contents
	mounts, err := cachemount.List(k.store.Root())
	if err != nil {
		return out, err
	}
	for _, c := range mounts {
		it := gc.Item{Kind: gc.KindMount, Path: filepath.Join(mountsFolder, filepath.Base(c.Dir)), Rule: gc.Free, LastUsed: c.LastUsed, InUse: c.InUse}
		if c.ID != "" {
			it.Description = "cache mount " + c.ID
		}
		out.Items = append(out.Items, it)
	}
	logs, err := readFolder(k.path(logsFolder))
	for _, e := range logs {
		out.Items = append(out.Items, gc.Item{Kind: gc.KindLog, Path: filepath.Join(logsFolder, e.Name()), Rule: gc.Spare})
	}
	return out, err
}

// Remove implements gc.Keeper. A cache mount goes while its lock is held.
func (k keeper) Remove(c *snapshot.Collection, it gc.Item) (bool, error) {
	path := k.path(it.Path)
	if it.Kind == gc.KindMount {
		lock, err := files.TryLockExisting(cachemount.Mount{Dir: path}.Lock(), files.Exclusive)
		if errors.Is(err, files.ErrLocked) {
			return false, nil // somebody has just begun to use it
		}
		defer lock.Release()
	}
	return true, c.Discard(path)
}

func (k keeper) path(name string) string { return filepath.Join(k.store.Root(), name) }

// readFolder lists a folder that is made when it is needed first.
func readFolder(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return entries, err
}
