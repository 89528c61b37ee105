package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/gc"
)

// The folders of the worker in a store.
const (
	mountsFolder = "mounts" // cache mounts, each with a lock beside it
	logsFolder   = "logs"   // what processes wrote
	runFolder    = "run"    // what processes need while they run
)

const (
	cacheLock = ".lock" // ends the name of a cache mount's lock
	newCaches = "new-"  // begins the name of a cache mount in the making
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
	mounts, err := readFolder(k.path(mountsFolder))
	if err != nil {
		return out, err
	}
	for _, e := range mounts {
		if strings.HasSuffix(e.Name(), cacheLock) || strings.HasPrefix(e.Name(), newCaches) {
			continue
		}
		it := gc.Item{Kind: gc.KindMount, Path: filepath.Join(mountsFolder, e.Name()), Rule: gc.Free}
		lock := k.path(it.Path) + cacheLock
		if fi, err := os.Stat(lock); err == nil {
			it.LastUsed = fi.ModTime()
		}
		it.InUse = files.IsLocked(lock, files.Exclusive)
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
		lock, err := files.TryLockExisting(path+cacheLock, files.Exclusive)
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
