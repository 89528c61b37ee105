package snapshot

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sync/semaphore"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/folder"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// Options say how a store is used. The zero value is the default.
type Options struct {
	// Fetches is how many layers are fetched and unpacked at once; 0 means 4.
	Fetches int
	// Driver is how stacks become root file systems; "" means DriverOverlay. Stores
	// that were used with one driver can be used with another.
	Driver Driver
	// Emulated says that processes on snapshots do not have the ids that they
	// believe to have: owners of what is in copies are records (package owner), even
	// if this process could set them. It matters to DriverCopy only.
	Emulated bool
}

// Store is a folder of layers. It is safe for concurrent use, also by several
// processes at once. Every method that takes a Layer or a Stack accepts values
// that another process, or an earlier one, got from a store on the same folder.
type Store struct {
	root   string
	driver Driver
	// emulated is Options.Emulated.
	emulated bool
	maker    *object.Maker
	blobs    *Blobs
	slots    *semaphore.Weighted // of fetching and unpacking
	lease    *lease.Lease        // what this store uses
	room     Room                // see SetRoom
	records  sync.Map            // knownRecord by LayerID: what need not be read again
	seen     sync.Map            // LayerID: layers that are on disk and stay, for they are pinned
	restored bool                // some layers of a copied store were not looked at
	used     *files.Lock         // of its folder
	isNew    bool                // this Store made the folder

	mu     sync.Mutex // guards what follows
	closed bool
	lazy   map[LayerID]lazyLayer // what AddLazy registered
	// outlines, unless nil, know entries of layers that are not here; outlined are those
	// that they told.
	outlines Outlines
	outlined map[LayerID]*manifest.Index
	bringing sync.WaitGroup       // layers of Outlines that are fetched
	actives  map[*Active]bool     // not yet committed or discarded
	byDiff   map[DiffID][]LayerID // of Movable layers; nil until it is needed
	views    map[LayerID]bool     // in mounts that View returned
	kept     []*laidOut           // committed ones to continue from, the latest last
	copies   map[string]*laidOut  // what View returned, by stackKey
}

// LayersFolder and BlobsFolder are where, below the store's folder, each layer lies under
// its ID, and each blob under the hexadecimal part of its digest.
const (
	LayersFolder = folder.Layers
	BlobsFolder  = folder.Blobs
)

// The other folders of a store.
const (
	activeDir = folder.Active
	tmpDir    = lease.TmpDir
	emptyDir  = folder.Empty
	rootsDir  = "roots" // empty directories with various metadata
)

// Open opens the store below root, and makes it where there is none. A folder that holds
// something else is an error that matches folder.ErrNotStore, and stays as it is.
func Open(root string, opts Options) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if opts.Fetches <= 0 {
		opts.Fetches = 4
	}
	used, err := folder.Use(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s, err := open(root, opts)
	if err != nil {
		return nil, errors.Join(err, used.Release())
	}
	s.used = used
	return s, nil
}

// open opens a store that is in use.
func open(root string, opts Options) (*Store, error) {
	isNew, err := folder.Prepare(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{
		root:   root,
		isNew:  isNew,
		driver: opts.Driver, emulated: opts.Emulated,
		slots:   semaphore.NewWeighted(int64(opts.Fetches)),
		maker:   object.NewMaker(),
		lazy:    map[LayerID]lazyLayer{},
		actives: map[*Active]bool{},
		views:   map[LayerID]bool{},
	}
	s.blobs = &Blobs{s: s}
	if s.lease, err = lease.Open(root); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err = folder.Check(root, s.maker.Recording()); err == nil {
		err = s.notePlace(context.Background())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.lease.Close())
	}
	return s, nil
}

// IsNew reports whether the store's folder was made by Open.
func (s *Store) IsNew() bool { return s.isNew }

// Close releases what the store holds in memory; unfinished Actives of this
// process are discarded. It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	var left []*Active
	for a := range s.actives {
		left = append(left, a)
	}
	s.mu.Unlock()
	s.bringing.Wait()
	var errs []error
	for _, a := range left {
		errs = append(errs, a.Discard())
	}
	errs = append(errs, s.dropKept())
	errs = append(errs, s.lease.Close(), s.used.Release())
	return errors.Join(errs...)
}

// Root returns the store's folder.
func (s *Store) Root() string { return s.root }

// Maker makes what layers hold, as this process can.
func (s *Store) Maker() *object.Maker { return s.maker }

// Lease is what the store uses of its folder.
func (s *Store) Lease() *lease.Lease { return s.lease }

// Blobs returns the store's content-addressed files.
func (s *Store) Blobs() *Blobs { return s.blobs }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}
