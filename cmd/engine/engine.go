package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"layered.build/builder/cache/disk"
	"layered.build/builder/cmd/containers/runs"
	"layered.build/builder/executor/builds"
	"layered.build/builder/executor/source"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// Engine is a store and what works on it, for one request. What the request used stays in
// the store until the engine is closed (the store's lease). It is safe for concurrent use,
// but Close.
type Engine struct {
	Store  *snapshot.Store
	Images *registry.Images
	Client *registry.Client
	Cache  *disk.Cache

	host    *Host
	room    snapshot.Room
	sandbox Sandbox // nil until it is needed

	mu     sync.Mutex
	places []io.Closer // guarded by mu; of shared caches
}

// Host is what opened the engine.
func (e *Engine) Host() *Host { return e.host }

// Root is the store's folder.
func (e *Engine) Root() string { return e.host.opts.Root }

// path is a path below the store's folder.
func (e *Engine) path(elem ...string) string {
	return filepath.Join(append([]string{e.Root()}, elem...)...)
}

// Runs are the records of processes that were started on the store's images.
func (e *Engine) Runs() runs.Folder { return runs.In(e.Root()) }

// Builds are what became of the last builds.
func (e *Engine) Builds() builds.Folder { return builds.In(e.Root()) }

// ContextsDir is the folder for what is known of build contexts, SourcesDir that for
// repositories and downloads (package executor/source).
func (e *Engine) ContextsDir() string { return e.path(source.ContextsFolder) }

// SourcesDir is described with ContextsDir.
func (e *Engine) SourcesDir() string { return e.path(source.SourcesFolder) }

// Attach registers the layers of an image that are not on disk, so that they are fetched
// when they are needed.
func (e *Engine) Attach(img *registry.Image) error {
	if err := e.Client.Attach(img.Stack); err != nil {
		return fmt.Errorf("image %s: %w", img.ID, err)
	}
	return nil
}

// Close ends the use of the store; if something was written to it, it is brought back
// into its budget, unless ctx has ended. It is called once.
func (e *Engine) Close(ctx context.Context) error {
	var errs []error
	if e.sandbox != nil {
		errs = append(errs, e.sandbox.Close())
	}
	for _, p := range e.places {
		errs = append(errs, p.Close())
	}
	if e.Store.Written() > 0 {
		errs = append(errs, e.Store.Release())
		e.Collect(ctx)
	}
	return errors.Join(append(errs, e.Store.Close())...)
}
