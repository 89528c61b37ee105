package manifest

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Type is the type of a file system object.
type Type byte

// The entry types.
const (
	TypeFile     Type = 'f'
	TypeDir      Type = 'd'
	TypeSymlink  Type = 'l'
	TypeChar     Type = 'c'
	TypeBlock    Type = 'b'
	TypeFifo     Type = 'p'
	TypeSocket   Type = 's' // contexts only; never in a layer
	TypeWhiteout Type = 'w' // removes the path of lower layers
)

// Entry is one object of a layer or of a tree.
type Entry struct {
	// Path is relative to the root, slash-separated, clean, without a leading
	// slash; the root itself is ".".
	Path string
	Type Type
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
	// object's inode, of the same type and no directory; "" for that first entry itself.
	Hardlink string            `json:",omitempty"`
	Xattrs   map[string]string `json:",omitempty"`
	DevMajor int64             `json:",omitempty"`
	DevMinor int64             `json:",omitempty"`
	// Opaque says that a directory hides all that lower layers have below it.
	Opaque bool `json:",omitempty"`
}

// TrueTime is the modification time that the entry has without any epoch, in
// whole seconds.
func (e *Entry) TrueTime() time.Time {
	t := e.ModTime
	if !e.RealTime.IsZero() {
		t = e.RealTime
	}
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return time.Unix(t.Unix(), 0)
}

// Limit gives the entry the time that it has under an epoch, which may be nil.
func (e *Entry) Limit(real time.Time, epoch *time.Time) {
	e.ModTime, e.RealTime = real, time.Time{}
	if epoch != nil && real.Unix() > epoch.Unix() {
		e.ModTime, e.RealTime = time.Unix(epoch.Unix(), 0), real
	}
}
