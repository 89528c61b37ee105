package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

// Transferred counts what was carried from one place to another, or to this machine.
type Transferred struct {
	Records, Mounts int
	// Left are entries that were left out: not signed as they should be, damaged, or on layers
	// that the machine has not.
	Left int
	// Baseless are those of Left that are on layers that the machine has not.
	Baseless int
	// Bytes are those of blobs that were sent.
	Bytes int64
}

// CopyTo carries all entries to another place, with their scopes and signatures. What is
// there already stays. An entry that is not signed by the keys of the source, if there are
// any, or has a blob that is missing or damaged, is left out, which report is told of.
func (c *Contents) CopyTo(ctx context.Context, to Backend, report func(Problem)) (Transferred, error) {
	var all Transferred
	for _, sc := range c.scopes {
		n, err := c.copyScope(ctx, to, sc, report)
		all.Records, all.Mounts = all.Records+n.Records, all.Mounts+n.Mounts
		all.Left, all.Bytes = all.Left+n.Left, all.Bytes+n.Bytes
		if err != nil {
			return all, fmt.Errorf("copy cache %s to %s: %w", c.from, to, err)
		}
	}
	return all, nil
}

func (c *Contents) copyScope(ctx context.Context, to Backend, sc *loadedScope, report func(Problem)) (Transferred, error) {
	var n Transferred
	records, mounts := c.believed(sc, func(scope, object string, err error) { report(Problem{scope, object, err}) })
	w := newWriter()
	for _, r := range records {
		w.add(*r, sc.index.outputs(r))
	}
	for _, m := range mounts {
		w.addMount(m)
	}
	missing, err := to.Missing(ctx, w.out.blobs())
	if err != nil {
		return n, err
	}
	bad, sent, err := carry(ctx, c.from.Backend, to, missing)
	if err != nil {
		return n, err
	}
	n.Bytes = sent
	for d, why := range bad {
		report(Problem{sc.name, "blob " + string(d), why})
	}
	spoiled := func(blobs []Blob) bool {
		return slices.ContainsFunc(blobs, func(b Blob) bool { return bad[b.Digest] != nil })
	}
	records = slices.DeleteFunc(records, func(r *record) bool { return spoiled(blobsOf(sc.index.outputs(r))) })
	mounts = slices.DeleteFunc(mounts, func(m *Mount) bool { return spoiled(m.blobs()) })
	n.Records, n.Mounts = len(records), len(mounts)
	n.Left = len(sc.index.Records) + len(sc.index.Mounts) - n.Records - n.Mounts
	return n, edit(ctx, to, sc.name, func(old *loadedScope) (*index, error) {
		return merged(old, sc, records, mounts), nil
	})
}

// blobsOf are what a place has of layers.
func blobsOf(outputs [][]layer) (out []Blob) {
	for _, ls := range outputs {
		for _, l := range ls {
			out = append(out, l.blobs()...)
		}
	}
	return out
}

// merged is an index with more entries, nil if it has all of them, or younger ones.
func merged(old, from *loadedScope, records []*record, mounts []*Mount) *index {
	w, more := newWriter(), 0
	w.addAll(old.index)
	for _, r := range records {
		if was := old.records[r.Key]; was == nil || was.Created < r.Created {
			w.add(*r, from.index.outputs(r))
			more++
		}
	}
	for _, m := range mounts {
		if !slices.ContainsFunc(old.index.Mounts, func(o *Mount) bool { return sameMount(o, m) && o.Created >= m.Created }) {
			w.addMount(m)
			more++
		}
	}
	if more == 0 && old.version != "" {
		return nil
	}
	return w.within(0)
}

// carry sends blobs from one place to another. What cannot be read is bad.
func carry(ctx context.Context, from, to Backend, blobs []Blob) (bad map[digest.Digest]error, sent int64, err error) {
	bad = map[digest.Digest]error{}
	var mu sync.Mutex // guards bad and sent
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, b := range blobs {
		g.Go(func() error {
			read := &reading{from: from, blob: b}
			err := to.Store(ctx, b, read.open)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				sent += b.Size
			case ctx.Err() == nil && read.err != nil:
				bad[b.Digest] = read.err
			default:
				return err
			}
			return nil
		})
	}
	return bad, sent, g.Wait()
}

// reading reads a blob for somebody else, and remembers what was wrong with it.
type reading struct {
	from Backend
	blob Blob
	err  error
}

func (r *reading) open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	body, err := newReader(ctx, r.from, r.blob, offset)
	if err != nil {
		r.err = err
		return nil, err
	}
	w := &whole{ReadCloser: body, of: r}
	if offset == 0 {
		w.verify = r.blob.Digest.Verifier()
	}
	return w, nil
}

// whole is a blob that ends with an error if it is another one.
type whole struct {
	io.ReadCloser
	of     *reading
	verify digest.Verifier // nil: it is not read from its beginning
}

// Read implements io.Reader.
func (w *whole) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if w.verify != nil {
		w.verify.Write(p[:n])
		if errors.Is(err, io.EOF) && !w.verify.Verified() {
			err = errContent
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		w.of.err = err
	}
	return n, err
}

// Local is what Import needs of the layers of this machine.
type Local interface {
	// Materialize fetches and verifies the layers of a stack.
	Materialize(ctx context.Context, stack snapshot.Stack) error
}

// Import brings all entries of the places that a session reads to this machine, with their
// layers, which are verified. Entries that stand on layers that the machine has not, such as
// those of base images, are left out; so are damaged ones, which is told.
func (s *Session) Import(ctx context.Context, local Local) (Transferred, error) {
	var n Transferred
	for _, i := range s.sources {
		scopes, err := i.load(ctx)
		if err != nil {
			return n, err
		}
		for _, sc := range scopes {
			for _, r := range sc.index.Records {
				if err := i.bring(ctx, sc, r, local, &n); err != nil {
					return n, err
				}
			}
		}
	}
	return n, nil
}

// bring brings one entry here, or leaves it out if that cannot be, and counts it.
func (i *importer) bring(ctx context.Context, sc *loadedScope, r *record, local Local, n *Transferred) error {
	if !i.verify(sc, r) {
		n.Left++
		return nil
	}
	rec, err := i.restore(sc, r)
	if err != nil || rec == nil {
		n.Left++
		if err == nil {
			n.Baseless++
		} else {
			i.session.tellOnce(fmt.Sprintf("cache %s: entry %s cannot be used: %v", i, r.Key, err), "")
		}
		return nil
	}
	for _, stack := range rec.Outputs {
		err := local.Materialize(ctx, stack)
		if i.session.Recover(ctx, err) {
			n.Left++
			return nil
		}
		if err != nil {
			return err
		}
	}
	n.Records++
	if was, err := i.session.opts.Local.Get(ctx, r.Key); err == nil && !was.Created.Before(rec.Created) {
		return nil // this machine knows the step's name too
	}
	return i.session.opts.Local.Put(ctx, r.Key, rec)
}

// Use has a record of this machine exported.
func (s *Session) Use(key cache.Key, rec *cache.Record) { s.note(key, rec) }
