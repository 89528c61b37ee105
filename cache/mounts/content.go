package mounts

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
)

// Kind is what an entry is.
type Kind byte

// The kinds of entries. Others, such as sockets and devices, are in no content.
const (
	KindFile Kind = 'f'
	KindDir  Kind = 'd'
	KindLink Kind = 'l' // symbolic
	KindHard Kind = 'h' // another name of what is no folder and stands before it
	KindFifo Kind = 'p'
)

// Entry is an object of a mount.
type Entry struct {
	// Name is its name in the folder that is Parent, the index of an entry before it; -1
	// for the first entry, the mount's own folder, which has no name.
	Name   string
	Parent int
	Kind   Kind
	// Mode holds the permission bits with setuid, setgid and sticky.
	Mode     uint32
	UID, GID uint32
	ModTime  time.Time
	// Size is that of a file, in bytes. Its bytes follow those of the files before it in
	// the stream: all of them, or of a sparse one those of the extents.
	Size    int64
	Sparse  bool
	Extents []Extent
	// Target is what a symbolic link says; File the index of the entry that a KindHard is
	// another name of.
	Target string
	File   int
	// Xattrs are user attributes and file capabilities.
	Xattrs map[string]string
}

// Extent is a part of a sparse file that has bytes; between them are holes.
type Extent struct{ Offset, Length int64 }

// Chunk is a part of the stream, and where it is.
type Chunk struct {
	// Digest is the sha256 of its bytes.
	Digest [32]byte
	Size   int
	// Pack is an index of Manifest.Packs; it has Stored bytes there from Offset on: the
	// chunk compressed with zstd, or as it is if Stored is Size.
	Pack   int
	Offset int64
	Stored int
}

// Pack is a blob that holds compressed chunks, one behind the other.
type Pack struct {
	Digest digest.Digest
	Size   int64
}

// Manifest is a content.
type Manifest struct {
	// Entries begin with the mount's folder; all that a folder has follows it, ordered by
	// names.
	Entries []Entry
	Packs   []Pack
	// Chunks are all different; Stream are their indexes, in the order of the stream.
	Chunks []Chunk
	Stream []int
}

// Size is how many bytes the stream has.
func (m *Manifest) Size() (n int64) {
	for i := range m.Entries {
		n += m.Entries[i].stored()
	}
	return n
}

// PackSize is how many bytes the packs have: at most twice as many as the stream.
func (m *Manifest) PackSize() (n int64) {
	for _, p := range m.Packs {
		n += p.Size
	}
	return n
}

// stored is how many bytes of the stream are the entry's.
func (e *Entry) stored() (n int64) {
	if !e.Sparse {
		return e.Size
	}
	for _, x := range e.Extents {
		n += x.Length
	}
	return n
}

// The bounds of what is read and written.
const (
	maxManifest = 128 << 20 // bytes, uncompressed
	maxEntries  = 2 << 20
	maxChunks   = 2 << 20
	maxPacks    = 4096
	maxPack     = 64 << 20 // bytes
	maxDepth    = 256
	maxName     = 255
	maxTarget   = 4095
	maxXattr    = 64 << 10
	maxXattrs   = 64
	maxExtents  = 64 << 10 // of one file
)

// PackError says which pack is not what it should be, or cannot be had.
type PackError struct {
	Pack digest.Digest
	Err  error
}

// Error implements error.
func (e *PackError) Error() string { return "pack " + e.Pack.String() + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the pack.
func (e *PackError) Unwrap() error { return e.Err }

var (
	// ErrDamaged says that a manifest or pack is not what it should be.
	ErrDamaged = errors.New("no content of a mount, or damaged")
	// ErrChanged says that a mount changed while it was read.
	ErrChanged = errors.New("the mount changes while it is read")
	// ErrLimit says that a mount has more than a manifest can hold.
	ErrLimit = errors.New("more than a cache can hold")
)
