package snapshot

import (
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// EntryType is the type of a file system object.
type EntryType byte

// The entry types.
const (
	TypeFile     EntryType = 'f'
	TypeDir      EntryType = 'd'
	TypeSymlink  EntryType = 'l'
	TypeChar     EntryType = 'c'
	TypeBlock    EntryType = 'b'
	TypeFifo     EntryType = 'p'
	TypeSocket   EntryType = 's' // contexts only; never in a layer
	TypeWhiteout EntryType = 'w' // removes the path of lower layers
)

// Entry is one object of a layer or of a tree.
type Entry struct {
	// Path is relative to the root, slash-separated, clean, without a leading
	// slash; the root itself is ".".
	Path string
	Type EntryType
	// Mode holds the permission bits with setuid, setgid and sticky (07777).
	Mode     uint32
	UID, GID uint32
	Size     int64 `json:",omitempty"` // regular files, bytes
	ModTime  time.Time
	// RealTime is the modification time before an epoch limited ModTime; zero if
	// ModTime is it. Only layers made here know it. A layer that takes the entry
	// over limits it anew.
	RealTime time.Time `json:"-"`
	// Digest is the content digest of a regular file.
	Digest digest.Digest `json:",omitempty"`
	// Linkname is the target of a symlink.
	Linkname string `json:",omitempty"`
	// Hardlink is the path of the first entry of the same layer that shares this
	// regular file's inode; "" for that first entry itself.
	Hardlink string            `json:",omitempty"`
	Xattrs   map[string]string `json:",omitempty"`
	DevMajor int64             `json:",omitempty"`
	DevMinor int64             `json:",omitempty"`
	// Opaque says that a directory hides all that lower layers have below it.
	Opaque bool `json:",omitempty"`
}

// Tree is a read-only file tree: the merged view of a layer stack, or a build
// context. Paths are as in Entry.Path. No method follows symlinks, also not in
// the middle of a path: use ResolvePath for that. Errors match fs.ErrNotExist.
// A Tree is safe for concurrent use.
type Tree interface {
	// Lstat describes one object. Digest may be empty.
	Lstat(path string) (*Entry, error)
	// ReadDir lists a directory's children, sorted by name.
	ReadDir(path string) ([]*Entry, error)
	// Open opens a regular file; the caller closes it.
	Open(path string) (io.ReadCloser, error)
	// Digest returns the content digest of a regular file, from an index where
	// one is known to be true, else by reading the file.
	Digest(path string) (digest.Digest, error)
}

// HostPather is a Tree that can say where an object really lies on this machine
// (for bind mounts, links and reflinks). The path must not be written to.
type HostPather interface {
	HostPath(path string) (string, bool)
}

// Change is one entry of a layer that is being made.
type Change struct {
	Entry Entry
	// Open yields the content of a regular file (nil for an empty one, or where
	// HostPath is set).
	Open func() (io.ReadCloser, error)
	// HostPath is a file of this machine that holds exactly the content of the
	// regular file; it lets the store link, reflink or copy it without a detour.
	HostPath string
}
