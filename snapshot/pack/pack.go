package pack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/archive"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// window is how many entries are in the making at once.
const window = 128

// job is an Item with what a worker found; jobs are used again and again.
type job struct {
	Item
	buf   []byte
	err   error
	ready chan struct{}
}

// Target says what is made of a sequence of items.
type Target struct {
	// Maker makes the objects of items that have a Dest.
	Maker *object.Maker
	// Out, unless nil, receives the tar.
	Out io.Writer
	// Manifest, unless nil, receives the records. It stays the caller's to end.
	// Without one files are not hashed.
	Manifest *manifest.Writer
	// Tap, unless nil, receives the tar too; it gets no more after an error, which
	// has no other consequence.
	Tap io.Writer
	// Inspector, unless nil, sees all that is packed; of a hole only a part.
	Inspector Inspector
	// MayOmit leaves out the tar's digest if runs of zeros are left out of that of a file
	// (sparse.Hash), and there is no Tap.
	MayOmit bool
}

// Result is what came out.
type Result struct {
	// Digest and Size are those of the tar. Digest is "" if it was omitted.
	Digest digest.Digest
	Size   int64
	// Holes is how much of Size is in holes of files.
	Holes int64
	// Entries is how many there are, and Whiteouts says that some are whiteouts.
	Entries   int
	Whiteouts bool
	// Newest is the latest modification time of the others, in seconds and without
	// any epoch; 0 if there are none.
	Newest int64
}

// Walk calls emit for every item, in the order of manifest.ComparePaths, and ends with
// the error that emit returned, if any.
type Walk func(ctx context.Context, emit func(Item) error) error

// packer does it in one pass: several workers read and hash small files while one
// goroutine puts them in order.
type packer struct {
	Target
	sink  *tarSink
	hdr   []byte
	dirs  []*manifest.Entry // made in dest; completed last
	dests []string

	hasWhiteouts bool
	entries      int
	newest       int64 // real time of an entry, in seconds
}

// Run packs what walk emits. Walk is called in a goroutine of its own. A file whose
// content is not as long as its record says, or has another digest than its item wants,
// is an error that names it.
func Run(ctx context.Context, to Target, walk Walk) (Result, error) {
	p := &packer{Target: to}
	return p.run(ctx, walk)
}

func (p *packer) run(ctx context.Context, walk Walk) (Result, error) {
	p.sink = newTarSink(&p.Target)
	g, gctx := errgroup.WithContext(ctx)
	free := make(chan *job, window)
	for range window {
		free <- &job{ready: make(chan struct{}, 1)}
	}
	work := make(chan *job, window)
	order := make(chan *job, window)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return walk(gctx, func(it Item) error {
			if err := p.prepare(&it); err != nil {
				return err
			}
			select {
			case j := <-free:
				j.Item, j.err = it, nil
				order <- j // never blocks: as many places as jobs
				work <- j
				return nil
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		})
	})
	for range max(2, min(8, runtime.GOMAXPROCS(0))) {
		g.Go(func() error {
			for j := range work {
				j.err = p.load(j)
				j.ready <- struct{}{}
			}
			return nil
		})
	}
	g.Go(func() error { return p.sequence(gctx, order, free) })
	err := g.Wait()
	if err == nil {
		p.sink.zero(1024)
	}
	d, serr := p.sink.finish()
	if err == nil {
		err = serr
	}
	if err == nil {
		err = p.finishDirs()
	}
	return Result{Digest: d, Size: p.sink.pos, Holes: p.sink.holes, Whiteouts: p.hasWhiteouts, Entries: p.entries, Newest: p.newest}, err
}

// prepare makes what must exist before later items: everything but files and links.
func (p *packer) prepare(it *Item) error {
	if it.Dest == "" || it.Record.Type == manifest.TypeFile || it.Record.Hardlink != "" {
		return nil
	}
	if err := p.Maker.Create(it.Dest, &it.Record.Entry); err != nil {
		return err
	}
	if it.Record.Type == manifest.TypeDir {
		e := it.Record.Entry
		p.dirs, p.dests = append(p.dirs, &e), append(p.dests, it.Dest)
		return nil
	}
	return p.Maker.SetMeta(it.Dest, &it.Record.Entry)
}

func (p *packer) finishDirs() error {
	for i := len(p.dirs) - 1; i >= 0; i-- {
		if err := p.Maker.SetMeta(p.dests[i], p.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// load reads a small file, hashes it and writes it to its dest.
func (p *packer) load(j *job) error {
	if p.Inspector != nil {
		if err := p.Inspector.Inspect(&j.Record.Entry); err != nil {
			return err
		}
	}
	if j.Record.Type != manifest.TypeFile || j.Record.Hardlink != "" || j.Record.Size > object.SmallFile {
		return nil
	}
	size := int(j.Record.Size)
	if cap(j.buf) < size+1 {
		j.buf = make([]byte, size+1, max(size+1, 8<<10))
	}
	n, err := j.read(j.buf[:size+1])
	if err != nil {
		return fmt.Errorf("read %s: %w", j.Record.Path, err)
	}
	if n != size {
		return j.changed()
	}
	j.buf = j.buf[:n]
	if p.Inspector != nil {
		if _, err := p.Inspector.Content(&j.Record.Entry).Write(j.buf); err != nil {
			return err
		}
	}
	if p.Manifest != nil {
		sum := sha256.Sum256(j.buf)
		if err := j.check(sum); err != nil {
			return err
		}
	}
	if j.Dest != "" {
		return p.Maker.WriteFile(j.Dest, &j.Record.Entry, j.buf)
	}
	return nil
}

// read fills buf from the item's content and returns how much there was.
func (j *job) read(buf []byte) (int, error) {
	if j.Host != "" {
		return object.ReadFile(j.Host, buf)
	}
	if j.Open == nil {
		return 0, nil
	}
	r, err := j.Open()
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, errors.Join(err, r.Close())
}

func (j *Item) changed() error {
	return fmt.Errorf("%s changed while it was read", j.Record.Path)
}

func (j *Item) check(sum [32]byte) error {
	var b [71]byte
	copy(b[:], "sha256:")
	hex.Encode(b[7:], sum[:])
	j.Record.Digest = digest.Digest(b[:])
	if j.Want != "" && j.Want != j.Record.Digest {
		return j.changed()
	}
	return nil
}

// sequence writes the jobs' entries in order.
func (p *packer) sequence(ctx context.Context, order <-chan *job, free chan<- *job) error {
	links := map[string]manifest.Record{} // first entries of hard links, for their digests
	var err error
	for j := range order {
		<-j.ready
		if err == nil {
			err = j.err
		}
		if err == nil {
			err = p.entry(ctx, j, links)
		}
		if err == nil {
			err = p.sink.failed()
		}
		if err != nil {
			return err // the walk stops with the context
		}
		free <- j
	}
	return nil
}

func (p *packer) entry(ctx context.Context, j *job, links map[string]manifest.Record) error {
	r := &j.Record
	p.entries++
	h := tarHeader(&r.Entry)
	if r.Type == manifest.TypeWhiteout {
		p.hasWhiteouts = true
	} else if t := r.TrueTime().Unix(); p.entries == 1 || t > p.newest {
		p.newest = t
	}
	p.hdr = archive.AppendHeader(p.hdr[:0], &h)
	p.sink.write(p.hdr)
	switch {
	case r.Hardlink != "" && p.Manifest == nil:
		// Only the tar is wanted, and the header was all of it.
	case r.Hardlink != "":
		if err := p.link(j, links); err != nil {
			return err
		}
	case r.Type == manifest.TypeFile:
		r.Offset = p.sink.pos
		if r.Size > object.SmallFile {
			if err := p.stream(ctx, j); err != nil {
				return err
			}
		} else {
			p.sink.write(j.buf)
		}
		p.sink.zero(archive.Padding(r.Size))
	}
	if j.Linked {
		links[r.Path] = *r
	}
	if p.Manifest == nil {
		return nil
	}
	return p.Manifest.Add(r)
}

func (p *packer) link(j *job, links map[string]manifest.Record) error {
	first, ok := links[j.Record.Hardlink]
	if !ok || first.Type != j.Record.Type {
		return fmt.Errorf("hard link %s: %q is no earlier file of the layer", j.Record.Path, j.Record.Hardlink)
	}
	j.Record.Digest, j.Record.Size, j.Record.Offset = first.Digest, first.Size, first.Offset
	if j.Dest == "" {
		return nil
	}
	target := j.Dest[:len(j.Dest)-len(j.Record.Path)] + j.Record.Hardlink
	if err := unix.Link(target, j.Dest); err != nil {
		return fmt.Errorf("link %s to %s: %w", j.Dest, target, err)
	}
	return nil
}

// tarHeader translates an entry.
func tarHeader(e *manifest.Entry) archive.Header {
	h := archive.Header{
		Name: e.Path, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime.Unix(),
		Linkname: e.Linkname, Xattrs: e.Xattrs, DevMajor: e.DevMajor, DevMinor: e.DevMinor,
	}
	if e.Hardlink != "" {
		h.Type, h.Linkname, h.Xattrs = '1', e.Hardlink, nil
		return h
	}
	switch e.Type {
	case manifest.TypeFile:
		h.Type, h.Size = '0', e.Size
	case manifest.TypeDir:
		h.Type = '5'
		h.Name += "/"
	case manifest.TypeSymlink:
		h.Type = '2'
	case manifest.TypeChar:
		h.Type = '3'
	case manifest.TypeBlock:
		h.Type = '4'
	case manifest.TypeFifo:
		h.Type = '6'
	case manifest.TypeWhiteout:
		dir, name := path.Split(e.Path)
		h = archive.Header{Name: dir + archive.WhiteoutPrefix + name, Type: '0'}
	}
	return h
}
