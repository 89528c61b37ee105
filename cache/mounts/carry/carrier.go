package carry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/mounts"
	"layered.build/builder/cache/shared"
	"layered.build/builder/snapshot/object"
)

// maxManifest is how many bytes a manifest may have as it is stored.
const maxManifest = 64 << 20

// Options configure a Carrier.
type Options struct {
	// Find lists what the places have of a mount, the best first; nil: nothing is restored.
	Find func(ctx context.Context, name shared.MountName, key string) ([]*shared.FoundMount, error)
	// Maker makes and describes files as processes see them. Required.
	Maker *object.Maker
	// Grow makes room in the store for so many bytes, and scratch ones that are gone when
	// done is called, or says that there is none; done is told whether the others were
	// written. nil: there is room.
	Grow func(ctx context.Context, bytes, scratch int64) (done func(error), err error)
	// Hold keeps others from removing a mount, or using it alone, until it is released. It
	// fails if somebody uses it alone. Required to send.
	Hold func(dir string) (release func() error, err error)
	// Task runs what takes time under a name for people; nil: it is just run.
	Task func(ctx context.Context, name string, fn func(context.Context) error) error
	// Tell is told of what went wrong; nil: nobody is.
	Tell func(text string)
}

// Carrier carries the mounts of one build. It is safe for concurrent use.
type Carrier struct {
	opts Options

	mu   sync.Mutex // guards what follows
	used map[string]*use
	dirs []string // the keys of used, in order
	// raw are manifests as they are stored, of what was restored or sent.
	raw map[digest.Digest][]byte
	// failed are manifests that could not be restored, and places.
	failed map[string]bool
}

// use is what steps did with a mount of this machine.
type use struct {
	names  []Name // those of all platforms
	failed bool   // a step that could write to it
}

// Name says which mount a content is of, and what it belongs to (shared.Mount.Key).
type Name struct {
	shared.MountName
	Key string
}

// New returns a Carrier.
func New(o Options) *Carrier {
	if o.Task == nil {
		o.Task = func(ctx context.Context, _ string, fn func(context.Context) error) error { return fn(ctx) }
	}
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	return &Carrier{opts: o, used: map[string]*use{}, raw: map[digest.Digest][]byte{}, failed: map[string]bool{}}
}

// Used says that the mount in a folder was used; ok, whether that went well. What a step that
// failed has left is not sent.
func (c *Carrier) Used(name Name, dir string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.used[dir]
	if u == nil {
		u = &use{}
		c.used[dir] = u
		c.dirs = append(c.dirs, dir)
	}
	u.failed = u.failed || !ok
	for _, n := range u.names {
		if n == name {
			return
		}
	}
	u.names = append(u.names, name)
}

// opener is a place that has blobs of mounts.
type opener interface {
	Open(ctx context.Context, b shared.MountBlob) (io.ReadCloser, error)
}

// manifest reads and verifies the manifest of a content.
func (c *Carrier) manifest(ctx context.Context, from opener, m *shared.Mount) (*mounts.Manifest, error) {
	c.mu.Lock()
	raw := c.raw[m.Manifest.Digest]
	c.mu.Unlock()
	if raw == nil {
		var err error
		if raw, err = readBlob(ctx, from, m.Manifest); err != nil {
			return nil, fmt.Errorf("read manifest %s: %w", m.Manifest.Digest, err)
		}
		c.know(m.Manifest.Digest, raw)
	}
	got, err := mounts.Decode(raw)
	if err != nil {
		return nil, err
	}
	if int64(len(got.Entries)) != m.Files || got.Size() != m.Size {
		return nil, fmt.Errorf("manifest %s has %d files of %d bytes, not %d of %d: %w",
			m.Manifest.Digest, len(got.Entries), got.Size(), m.Files, m.Size, mounts.ErrDamaged)
	}
	return got, nil
}

func (c *Carrier) know(d digest.Digest, raw []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw[d] = raw
}

func readBlob(ctx context.Context, from opener, b shared.MountBlob) (_ []byte, err error) {
	if b.Size > maxManifest {
		return nil, fmt.Errorf("%d bytes: %w", b.Size, mounts.ErrLimit)
	}
	b.Type = shared.MountManifest
	r, err := from.Open(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(r, b.Size+1))
	if err != nil {
		return nil, err
	}
	if b.Digest.Algorithm().FromBytes(raw) != b.Digest {
		return nil, fmt.Errorf("it is not what it should be: %w", mounts.ErrDamaged)
	}
	return raw, nil
}

var _ shared.MountSender = (*Carrier)(nil)
