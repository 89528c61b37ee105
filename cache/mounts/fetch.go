package mounts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// fetches is how many packs are fetched at once.
	fetches = 4
	// ahead is how many packs are fetched beyond those of the batches that are begun.
	ahead = 2 * fetches
)

// batch are files that follow each other.
type batch struct {
	first, end int   // the entries
	piece      int   // of the stream, the first one
	stream     int   // of Manifest.Stream, the chunk that it begins in
	skip       int64 // and how many bytes of that are not its own
	packs      []int
	need       int // of the fetcher's order, what this batch and those before it need
}

// batches cuts the files into batches.
func (r *restorer) batches() []*batch {
	var all []*batch
	var b *batch
	var offset, bytes int64 // of the stream; of the batch
	piece, at, files := 0, 0, 0
	var from int64 // where chunk at begins
	end := func(i int) {
		if b == nil {
			return
		}
		b.end = i
		packs := map[int]bool{}
		for n, pos := b.stream, from; bytes > 0 && pos < offset; n++ {
			c := &r.m.Chunks[r.m.Stream[n]]
			if !packs[c.Pack] {
				packs[c.Pack] = true
				b.packs = append(b.packs, c.Pack)
			}
			if pos += int64(c.Size); pos <= offset {
				at, from = n+1, pos
			}
		}
		all, b = append(all, b), nil
	}
	for i := range r.m.Entries {
		e := &r.m.Entries[i]
		if e.Kind != KindFile {
			continue
		}
		if b != nil && (files == batchFiles || bytes > batchBytes) {
			end(i)
		}
		if b == nil {
			b = &batch{first: i, piece: piece, stream: at, skip: offset - from}
			files, bytes = 0, 0
		}
		files++
		bytes += e.stored()
		offset += e.stored()
		for piece < len(r.stream.pieces) && r.stream.pieces[piece].entry == i {
			piece++
		}
	}
	end(len(r.m.Entries))
	return all
}

// fetcher brings packs into files, in the order in which they are needed, and removes each
// when its last batch is made.
type fetcher struct {
	how   Restoring
	packs []Pack
	order []int // of packs
	files []packFile
	begun chan int      // what batch.need is of those that are begun
	sent  chan struct{} // closed when all of order is being fetched, or nothing more will be
}

// packFile is a pack on this machine.
type packFile struct {
	done chan struct{} // closed when f or err is known
	f    *os.File
	err  error

	mu   sync.Mutex // guards left, and closing f
	left int        // batches that need it
}

func newFetcher(m *Manifest, batches []*batch, how Restoring) *fetcher {
	f := &fetcher{how: how, packs: m.Packs, files: make([]packFile, len(m.Packs)), begun: make(chan int), sent: make(chan struct{})}
	for _, b := range batches {
		for _, p := range b.packs {
			if f.files[p].left++; f.files[p].left == 1 {
				f.files[p].done = make(chan struct{})
				f.order = append(f.order, p)
			}
		}
		b.need = len(f.order)
	}
	return f
}

// start fetches with goroutines of g, until ctx ends.
func (f *fetcher) start(ctx context.Context, g *errgroup.Group) {
	next := make(chan int)
	g.Go(func() error {
		defer close(next)
		defer close(f.sent)
		for i, limit := 0, ahead; i < len(f.order); {
			out := next
			if i >= limit {
				out = nil
			}
			select {
			case out <- f.order[i]:
				i++
			case need := <-f.begun:
				limit = max(limit, need+ahead)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range min(fetches, len(f.order)) {
		g.Go(func() error {
			for p := range next {
				pf := &f.files[p]
				pf.f, pf.err = f.fetch(ctx, p)
				close(pf.done)
				if pf.err != nil {
					return pf.err
				}
			}
			return nil
		})
	}
}

func (f *fetcher) fetch(ctx context.Context, p int) (_ *os.File, err error) {
	pack := f.packs[p]
	r, err := f.how.Open(ctx, pack)
	if err != nil {
		return nil, &PackError{pack.Digest, err}
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	out, err := os.OpenFile(filepath.Join(f.how.Scratch, strconv.Itoa(p)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := io.CopyN(out, r, pack.Size); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it has fewer than %d bytes: %w", pack.Size, ErrDamaged)
		}
		return nil, errors.Join(&PackError{pack.Digest, err}, out.Close())
	}
	return out, nil
}

// begin says that a batch is being made: its packs are fetched now, and some more.
func (f *fetcher) begin(ctx context.Context, b *batch) {
	select {
	case f.begun <- b.need:
	case <-f.sent:
	case <-ctx.Done():
	}
}

// get waits for a pack.
func (f *fetcher) get(ctx context.Context, p int) (*os.File, error) {
	pf := &f.files[p]
	select {
	case <-pf.done:
		return pf.f, pf.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// used says that a batch is made.
func (f *fetcher) used(b *batch) {
	for _, p := range b.packs {
		pf := &f.files[p]
		pf.mu.Lock()
		if pf.left--; pf.left == 0 {
			_ = pf.drop() // close tries again
		}
		pf.mu.Unlock()
	}
}

// drop removes a pack from this machine. The caller has locked mu, or is alone.
func (pf *packFile) drop() error {
	if pf.f == nil {
		return nil
	}
	err := errors.Join(os.Remove(pf.f.Name()), pf.f.Close())
	pf.f = nil
	return err
}

// close removes what is left. Nothing is fetched any more.
func (f *fetcher) close() error {
	var errs []error
	for i := range f.files {
		errs = append(errs, f.files[i].drop())
	}
	return errors.Join(errs...)
}
