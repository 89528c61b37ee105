package snapshot

import (
	"context"
	"errors"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var errTODO = errors.New("not implemented yet")

// Options say how a store is used. The zero value is the default.
type Options struct {
	// Fetches is how many layers are fetched and unpacked at once; 0 means 4.
	Fetches int
}

// Store is a folder of layers. It is safe for concurrent use, also by several
// processes at once. Every method that takes a Layer or a Stack accepts values
// that another process, or an earlier one, got from a store on the same folder.
type Store struct{}

// Open opens the store below root, and makes it where there is none.
func Open(root string, opts Options) (*Store, error) { return nil, errTODO }

// Close releases what the store holds in memory; unfinished Actives of this
// process are discarded. It is idempotent.
func (s *Store) Close() error { return errTODO }

// Root returns the store's folder.
func (s *Store) Root() string { return "" }

// Lookup returns the layer that completes a chain, if the store has its data.
func (s *Store) Lookup(chain ChainID) (Layer, bool) { return Layer{}, false }

// Has reports whether a layer's data is on disk, or can be fetched because it was
// registered with AddLazy in this process.
func (s *Store) Has(id LayerID) bool { return false }

// Layer returns what is known of a layer, or an error that matches
// fs.ErrNotExist.
func (s *Store) Layer(id LayerID) (Layer, error) { return Layer{}, errTODO }

// Layers lists the layers whose data is on disk, in no special order.
func (s *Store) Layers() ([]Layer, error) { return nil, errTODO }

// AddLazy registers a layer on top of parent that is fetched only when something
// needs its data. The Layer's ID is derived from the chain, so that every process
// gives it the same name. Size is 0 until the data is here.
func (s *Store) AddLazy(parent Stack, l LazyLayer) (Layer, error) { return Layer{}, errTODO }

// Lazy returns what AddLazy registered for a layer in this process.
func (s *Store) Lazy(id LayerID) (LazyLayer, bool) { return LazyLayer{}, false }

// Materialize fetches and unpacks the layers of a stack that are missing, several
// at once. Layers in tar form get their directories too.
func (s *Store) Materialize(ctx context.Context, stack Stack) error { return errTODO }

// Fetch makes sure that the compressed form of a layer that was pulled, or was
// registered with AddLazy, is among the Blobs, without unpacking it.
func (s *Store) Fetch(ctx context.Context, l Layer) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, errTODO
}

// Blob returns the descriptor of a layer's compressed form: the one it was pulled
// as, or the one that SetBlob named last. Whether the bytes are here is
// Blobs().Has.
func (s *Store) Blob(l Layer) (ocispec.Descriptor, bool) { return ocispec.Descriptor{}, false }

// SetBlob records that a layer's tar has a compressed form.
func (s *Store) SetBlob(l Layer, desc ocispec.Descriptor) error { return errTODO }

// Import applies a tar on top of parent and makes it a layer now. The stream may be compressed. DiffID,
// unless empty, is what the uncompressed tar must have.
func (s *Store) Import(ctx context.Context, parent Stack, diffID DiffID, r io.Reader) (Layer, error) {
	return Layer{}, errTODO
}

// Prepare makes a writable snapshot on top of parent, materializing it.
func (s *Store) Prepare(ctx context.Context, parent Stack) (*Active, error) { return nil, errTODO }

// View returns a read-only mount of a stack, materializing it.
func (s *Store) View(ctx context.Context, stack Stack) (Mount, error) { return Mount{}, errTODO }

// Active is a writable snapshot. It belongs to this process; when the process
// dies, Reclaim removes it.
type Active struct{}

// Mount returns what to mount as root file system.
func (a *Active) Mount() Mount { return Mount{} }

// Upper returns the directory that receives the changes.
func (a *Active) Upper() string { return "" }

// CommitOptions refine Commit. The zero value commits everything.
type CommitOptions struct {
	// Epoch, if set, is the latest modification time that the layer may have;
	// later ones become this, in the tar and in the directory.
	Epoch *time.Time
	// RemovePaths (relative to the root, as Entry.Path) are removed first where
	// they are empty files or empty directories of the upper directory: the
	// mountpoints that the sandbox made. Deeper paths are removed first.
	RemovePaths []string
}

// Commit makes a layer of the changes; nothing may be mounted or running on the
// snapshot any more. Afterwards the Active is used up.
func (a *Active) Commit(ctx context.Context, opts CommitOptions) (Layer, error) {
	return Layer{}, errTODO
}

// Discard removes the snapshot. It is idempotent, and does nothing after Commit.
func (a *Active) Discard() error { return errTODO }

// WriteOptions refine WriteLayer.
type WriteOptions struct {
	// Dir says that a directory form is needed soon: files are copied into it.
	// Otherwise the layer is streamed into its tar only, and the directory is
	// made when something mounts the layer.
	Dir bool
	// Epoch is as in CommitOptions.
	Epoch *time.Time
}

// WriteLayer makes a layer from a list of changes without mounting anything.
// Changes may come in any order, each path at most once; the parent directories
// of every change are changes themselves, unless they lie in the parent stack
// unchanged and need not appear in the layer's tar. Where Entry.Digest is set and
// the bytes that are read differ, the error names the file.
func (s *Store) WriteLayer(ctx context.Context, parent Stack, changes []Change, opts WriteOptions) (Layer, error) {
	return Layer{}, errTODO
}

// Tree returns the merged, read-only view of a stack, without mounting anything.
// Layers that are not on disk are fetched.
func (s *Store) Tree(ctx context.Context, stack Stack) (Tree, error) { return nil, errTODO }

// Tar returns the exact uncompressed tar of a layer; its digest is the DiffID,
// and a read that would end with another digest fails instead. The caller closes
// it.
func (s *Store) Tar(ctx context.Context, l Layer) (io.ReadCloser, error) { return nil, errTODO }

// Manifest returns the layer's entries. The caller closes it.
func (s *Store) Manifest(ctx context.Context, l Layer) (*Manifest, error) { return nil, errTODO }

// Reclaim removes what dead processes left in the store.
func (s *Store) Reclaim(ctx context.Context) error { return errTODO }

// Remove deletes a layer's data and the chain names that lead to it. It is no
// error if there is none. The caller makes sure that nothing uses the layer; one
// that is mounted stays readable until it is unmounted.
func (s *Store) Remove(id LayerID) error { return errTODO }

// Usage returns the bytes on disk of a layer in all its forms, without blobs.
func (s *Store) Usage(id LayerID) (int64, error) { return 0, errTODO }

// Blobs returns the store's content-addressed files.
func (s *Store) Blobs() *Blobs { return nil }
