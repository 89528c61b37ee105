package snapshot

// The methods of Store that other packages use, and what they promise:
//
//	Open(root string, opts Options) (*Store, error)
//	(*Store) Close() error
//
// Finding and adding layers:
//	Lookup(chain ChainID) (Layer, bool)                    the layer that completes this chain, if the store has it on disk
//	Has(id LayerID) bool                                   on disk, or registered with AddLazy
//	AddLazy(parent Stack, l LazyLayer) (Layer, error)      registers a layer that is fetched when something needs its data
//	Materialize(ctx, Stack) error                          fetches and unpacks what is missing, layers in parallel
//	Import(ctx, parent Stack, diffID, r io.Reader) (Layer, error)   applies an uncompressed or compressed tar now (docker load)
//
// Writable snapshots:
//	Prepare(ctx, parent Stack) (*Active, error)
//	  (*Active) Mount() Mount           what to mount as root file system
//	  (*Active) Upper() string          the directory that receives the changes
//	  (*Active) Commit(ctx, CommitOptions) (Layer, error)   rename of the upper directory; hashing in one pass
//	  (*Active) Discard() error         idempotent; no-op after Commit
//	View(ctx, Stack) (Mount, error)     read-only mount of a stack
//	Mount.Attach(target string) error   mounts with the new mount API in the calling thread's mount namespace
//
// Layers without a mount (COPY):
//	WriteLayer(ctx, parent Stack, changes []Change, WriteOptions) (Layer, error)
//
// Reading:
//	Tree(ctx, Stack) (Tree, error)                merged view in pure Go, materializing as needed
//	Tar(ctx, Layer) (io.ReadCloser, error)        the exact uncompressed tar (its digest is DiffID)
//	Manifest(ctx, Layer) (*Manifest, error)
//	Blobs() *Blobs                                content-addressed files: configs, manifests, compressed layers
//
// Keeping:
//	Reclaim(ctx) error                            removes what dead processes left (active/, tmp/)
//	Usage, Remove (images being deleted; the garbage collector)
