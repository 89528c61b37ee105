package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/gc"
)

// The folders below a store's: ContextsFolder for the stat indexes of build contexts
// (Contexts.StateDir), SourcesFolder for what was fetched (RemoteOptions.Dir).
const (
	ContextsFolder = "contexts"
	SourcesFolder  = "sources"
)

// keeper looks after what a store has of contexts and of other machines.
type keeper struct{ root string }

// Keeper returns the keeper of the stat indexes, downloads and repositories in the store
// whose folder is root.
func Keeper(root string) gc.Keeper { return keeper{root} }

// remoteFolders have what was fetched; of other things in them nothing is known.
var remoteFolders = [...]struct{ name, kind string }{
	{httpBlobs, gc.KindHTTP}, {httpMeta, gc.KindHTTP}, {gitRepos, gc.KindGit}, {gitCheckouts, gc.KindGit},
}

// Folders implements gc.Keeper.
func (keeper) Folders() []gc.Folder {
	return []gc.Folder{
		{Name: ContextsFolder, Depth: 1},
		{Name: path.Join(SourcesFolder, "http"), Depth: 2},
		{Name: path.Join(SourcesFolder, "git"), Depth: 2},
	}
}

// Items implements gc.Keeper.
func (k keeper) Items(context.Context) (gc.Contents, error) {
	var out gc.Contents
	indexes, err := k.list(ContextsFolder)
	if err != nil {
		return out, err
	}
	for _, p := range indexes {
		out.Items = append(out.Items, gc.Item{Kind: gc.KindContext, Path: p, Rule: gc.Spare})
	}
	for _, f := range remoteFolders {
		found, err := k.list(path.Join(SourcesFolder, f.name))
		if err != nil {
			return out, err
		}
		for _, p := range found {
			out.Items = append(out.Items, gc.Item{Kind: f.kind, Path: p, Rule: gc.Free, InUse: inUse(k.path(p))})
		}
	}
	return out, nil
}

// Remove implements gc.Keeper. What others may hold goes while this process does.
func (k keeper) Remove(c *snapshot.Collection, it gc.Item) (bool, error) {
	p := k.path(it.Path)
	if it.Kind != gc.KindContext {
		lock, err := files.TryLockExisting(lockOf(p), files.Exclusive)
		if errors.Is(err, files.ErrLocked) {
			return false, nil // somebody has just begun to use it
		}
		defer lock.Release()
	}
	return true, c.Discard(p)
}

func (k keeper) path(name string) string { return filepath.Join(k.root, name) }

// list returns the entries of a folder, by their paths below the store.
func (k keeper) list(folder string) ([]string, error) {
	entries, err := os.ReadDir(k.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		out = append(out, path.Join(folder, e.Name()))
	}
	return out, nil
}

// keepFresh is how long a thing that was just touched counts as used where its user
// holds no lock.
const keepFresh = time.Minute

// inUse reports whether somebody holds a download, or has just touched it.
func inUse(p string) bool {
	fi, err := os.Lstat(p)
	return err != nil || time.Since(fi.ModTime()) < keepFresh || files.IsLocked(lockOf(p), files.Exclusive)
}

// lockOf is what is locked while a download is used: a repository is held by the lock
// beside it, the others by themselves.
func lockOf(p string) string {
	if strings.HasSuffix(p, ".git") {
		return p + ".lock"
	}
	return p
}
