package mounts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const (
	// packSize is how large a pack becomes, in bytes; the last one is smaller.
	packSize = 8 << 20
	// stores is how many packs are stored at once.
	stores = 3
)

// Store keeps a pack. The data are the caller's again when it returns. It is called from
// several goroutines.
type Store func(ctx context.Context, p Pack, data []byte) error

// Moved says what of a content was new.
type Moved struct {
	// Packs are new blobs of Bytes.
	Packs int
	Bytes int64
}

// Pack makes the content of a tree: chunks that are known are where they are, the others
// are put into new packs. The error matches ErrChanged if the tree is not what it was.
func (t *Tree) Pack(ctx context.Context, known *Known, store Store) (*Manifest, Moved, error) {
	m := &Manifest{Entries: t.Entries}
	p := &packer{t: t, paths: newPaths(".", t.Entries), m: m, known: known, store: store, at: map[[32]byte]int{}, claimed: map[[32]byte]bool{}}
	if err := p.pack(ctx); err != nil {
		return nil, Moved{}, fmt.Errorf("pack %s: %w", t.dir, err)
	}
	return m, p.moved, nil
}

// packer makes one content.
type packer struct {
	t     *Tree
	root  *os.Root
	paths *paths
	m     *Manifest
	known *Known
	store Store
	zstd  *zstd.Encoder

	mu      sync.Mutex // guards claimed
	claimed map[[32]byte]bool

	// The following are used by one goroutine at a time.
	at     map[[32]byte]int // of m.Chunks
	first  []int64          // of m.Chunks, where in the stream each is first
	size   int64            // of the stream so far
	chunks []int            // in the pack that is filled
	data   []byte           // that pack
	stored *errgroup.Group
	moved  Moved
}

// found is a chunk of the stream.
type found struct {
	sum    [32]byte
	size   int
	packed []byte // nil: it need not be packed
}

func (p *packer) pack(ctx context.Context) (err error) {
	if p.root, err = os.OpenRoot(p.t.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.root.Close()) }()
	if p.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithWindowSize(maxChunk)); err != nil {
		return err
	}
	defer p.zstd.Close()
	p.stored, ctx = errgroup.WithContext(ctx)
	p.stored.SetLimit(stores)
	err = p.cut(ctx)
	if err == nil {
		err = p.again(ctx, p.known.place(p.m))
	}
	if err == nil {
		err = p.flush(ctx)
	}
	if serr := p.stored.Wait(); serr != nil {
		return serr // the reason of err, if there is one
	}
	return err
}

// cut finds the chunks of the stream, and packs those that are not known. Some are worked on
// at once, never more than a few.
func (p *packer) cut(ctx context.Context) (err error) {
	r, err := p.t.open(p.root, p.paths, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	queue := make(chan chan found, 2*runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	defer workers.Wait()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for ch := range queue {
			if err := p.take(ctx, <-ch); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		defer close(queue)
		return newGear().chunks(r, func(b []byte) error {
			ch, data := make(chan found, 1), bytes.Clone(b)
			select {
			case queue <- ch:
			case <-gctx.Done():
				return context.Cause(gctx)
			}
			workers.Go(func() { ch <- p.look(data) })
			return nil
		})
	})
	return g.Wait()
}

// look finds out what a chunk is, and compresses it unless that is not needed.
func (p *packer) look(data []byte) found {
	f := found{sum: sha256.Sum256(data), size: len(data)}
	if _, ok := p.known.lookup(&Chunk{Digest: f.sum, Size: f.size}); ok {
		return f
	}
	p.mu.Lock()
	was := p.claimed[f.sum]
	p.claimed[f.sum] = true
	p.mu.Unlock()
	if !was {
		f.packed = p.compress(data)
	}
	return f
}

// compress returns a chunk compressed, or as it is if that is not larger.
func (p *packer) compress(data []byte) []byte {
	if small := p.zstd.EncodeAll(data, make([]byte, 0, len(data))); len(small) < len(data) {
		return small
	}
	return data
}

// take adds a chunk to the stream.
func (p *packer) take(ctx context.Context, f found) error {
	i, ok := p.at[f.sum]
	if !ok {
		i = len(p.m.Chunks)
		p.at[f.sum] = i
		p.m.Chunks = append(p.m.Chunks, Chunk{Digest: f.sum, Size: f.size})
		p.first = append(p.first, p.size)
	}
	if len(p.m.Stream) == maxChunks {
		return ErrLimit
	}
	p.m.Stream = append(p.m.Stream, i)
	p.size += int64(f.size)
	if f.packed == nil {
		return nil
	}
	return p.put(ctx, i, f.packed)
}

// put puts a chunk into the pack that is filled.
func (p *packer) put(ctx context.Context, i int, packed []byte) error {
	c := &p.m.Chunks[i]
	c.Pack, c.Offset, c.Stored = len(p.m.Packs), int64(len(p.data)), len(packed)
	p.chunks, p.data = append(p.chunks, i), append(p.data, packed...)
	if len(p.data) < packSize-maxChunk {
		return nil
	}
	return p.flush(ctx)
}

// flush stores the pack that is filled.
func (p *packer) flush(ctx context.Context) error {
	if len(p.chunks) == 0 {
		return nil
	}
	if len(p.m.Packs) == maxPacks {
		return ErrLimit
	}
	data := p.data
	pack := Pack{Digest: digest.FromBytes(data), Size: int64(len(data))}
	for _, c := range p.chunks {
		p.m.Chunks[c].Pack = len(p.m.Packs)
	}
	p.m.Packs = append(p.m.Packs, pack)
	p.moved.Packs, p.moved.Bytes = p.moved.Packs+1, p.moved.Bytes+pack.Size
	p.chunks, p.data = nil, nil
	p.stored.Go(func() error { return p.store(ctx, pack, data) })
	return context.Cause(ctx)
}

// again packs chunks anew whose packs are not to be used any more.
func (p *packer) again(ctx context.Context, chunks []int) error {
	for _, c := range chunks {
		data, err := p.read(c)
		if err != nil {
			return err
		}
		if err := p.put(ctx, c, p.compress(data)); err != nil {
			return err
		}
	}
	return nil
}

// read reads a chunk again.
func (p *packer) read(c int) (_ []byte, err error) {
	r, err := p.t.open(p.root, p.paths, p.first[c])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data := make([]byte, p.m.Chunks[c].Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, err
	}
	if sha256.Sum256(data) != p.m.Chunks[c].Digest {
		return nil, ErrChanged
	}
	return data, nil
}
