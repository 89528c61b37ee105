package snapshot

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

const (
	// packWindow is how many entries are in the making at once.
	packWindow = 128
)

// packJob is a packItem with what a worker found; jobs are used again and again.
type packJob struct {
	packItem
	buf   []byte
	err   error
	ready chan struct{}
}

// packer turns a sequence of items in manifest order into a tar, its digest, a
// manifest and, where items have a dest, a directory, in one pass: several
// workers read and hash small files while one goroutine puts them in order.
type packer struct {
	maker *object.Maker
	out   io.Writer        // receives the tar; may be nil
	man   *manifest.Writer // may be nil: then files are not hashed either
	sink  *tarSink
	tap   io.Writer // may be nil
	look  Inspector // may be nil
	hdr   []byte
	dirs  []*Entry // made in dest; completed last
	dests []string

	hasWhiteouts bool
	entries      int
	newest       int64 // real time of an entry, in seconds
}

// packed is the outcome.
type packed struct {
	digest    digest.Digest // of the tar
	size      int64
	whiteouts bool
	entries   int
	newest    int64
}

// run packs what walk emits. Walk is called in a goroutine of its own and stops
// when emit fails.
func (p *packer) run(ctx context.Context, walk func(ctx context.Context, emit func(packItem) error) error) (packed, error) {
	p.sink = newTarSink(p.out, p.tap)
	g, gctx := errgroup.WithContext(ctx)
	free := make(chan *packJob, packWindow)
	for range packWindow {
		free <- &packJob{ready: make(chan struct{}, 1)}
	}
	work := make(chan *packJob, packWindow)
	order := make(chan *packJob, packWindow)
	g.Go(func() error {
		defer close(work)
		defer close(order)
		return walk(gctx, func(it packItem) error {
			if err := p.prepare(&it); err != nil {
				return err
			}
			select {
			case j := <-free:
				j.packItem, j.err = it, nil
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
	return packed{digest: d, size: p.sink.pos, whiteouts: p.hasWhiteouts, entries: p.entries, newest: p.newest}, err
}

// prepare makes what must exist before later items: everything but files.
func (p *packer) prepare(it *packItem) error {
	if it.dest == "" || it.rec.Type == TypeFile {
		return nil
	}
	if err := p.maker.Create(it.dest, &it.rec.Entry); err != nil {
		return err
	}
	if it.rec.Type == TypeDir {
		e := it.rec.Entry
		p.dirs, p.dests = append(p.dirs, &e), append(p.dests, it.dest)
		return nil
	}
	return p.maker.SetMeta(it.dest, &it.rec.Entry)
}

func (p *packer) finishDirs() error {
	for i := len(p.dirs) - 1; i >= 0; i-- {
		if err := p.maker.SetMeta(p.dests[i], p.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// load reads a small file, hashes it and writes it to its dest.
func (p *packer) load(j *packJob) error {
	if p.look != nil {
		if err := p.look.Inspect(&j.rec.Entry); err != nil {
			return err
		}
	}
	if j.rec.Type != TypeFile || j.rec.Hardlink != "" || j.rec.Size > object.SmallFile {
		return nil
	}
	size := int(j.rec.Size)
	if cap(j.buf) < size+1 {
		j.buf = make([]byte, size+1, max(size+1, 8<<10))
	}
	n, err := j.read(j.buf[:size+1])
	if err != nil {
		return fmt.Errorf("read %s: %w", j.rec.Path, err)
	}
	if n != size {
		return j.changed()
	}
	j.buf = j.buf[:n]
	if p.look != nil {
		if _, err := p.look.Content(&j.rec.Entry).Write(j.buf); err != nil {
			return err
		}
	}
	if p.man != nil {
		sum := sha256.Sum256(j.buf)
		if err := j.check(sum); err != nil {
			return err
		}
	}
	if j.dest != "" {
		return p.maker.WriteFile(j.dest, &j.rec.Entry, j.buf)
	}
	return nil
}

// read fills buf from the item's content and returns how much there was.
func (j *packJob) read(buf []byte) (int, error) {
	if j.host != "" {
		return object.ReadFile(j.host, buf)
	}
	if j.open == nil {
		return 0, nil
	}
	r, err := j.open()
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, errors.Join(err, r.Close())
}

func (j *packItem) changed() error {
	return fmt.Errorf("%s changed while it was read", j.rec.Path)
}

func (j *packItem) check(sum [32]byte) error {
	var b [71]byte
	copy(b[:], "sha256:")
	hex.Encode(b[7:], sum[:])
	j.rec.Digest = digest.Digest(b[:])
	if j.want != "" && j.want != j.rec.Digest {
		return j.changed()
	}
	return nil
}

// sequence writes the jobs' entries in order.
func (p *packer) sequence(ctx context.Context, order <-chan *packJob, free chan<- *packJob) error {
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

func (p *packer) entry(ctx context.Context, j *packJob, links map[string]manifest.Record) error {
	r := &j.rec
	p.entries++
	h := tarHeader(&r.Entry)
	if r.Type == TypeWhiteout {
		p.hasWhiteouts = true
	} else if t := r.TrueTime().Unix(); p.entries == 1 || t > p.newest {
		p.newest = t
	}
	p.hdr = archive.AppendHeader(p.hdr[:0], &h)
	p.sink.write(p.hdr)
	switch {
	case r.Hardlink != "" && p.man == nil:
		// Only the tar is wanted, and the header was all of it.
	case r.Hardlink != "":
		if err := p.link(j, links); err != nil {
			return err
		}
	case r.Type == TypeFile:
		r.Offset = p.sink.pos
		if r.Size > object.SmallFile {
			if err := p.stream(ctx, j); err != nil {
				return err
			}
		} else {
			p.sink.write(j.buf)
		}
		p.sink.zero(archive.Padding(r.Size))
		if j.linked {
			links[r.Path] = *r
		}
	}
	if p.man == nil {
		return nil
	}
	return p.man.Add(r)
}

func (p *packer) link(j *packJob, links map[string]manifest.Record) error {
	first, ok := links[j.rec.Hardlink]
	if !ok {
		return fmt.Errorf("hard link %s: %q is no earlier file of the layer", j.rec.Path, j.rec.Hardlink)
	}
	j.rec.Digest, j.rec.Size, j.rec.Offset = first.Digest, first.Size, first.Offset
	if j.dest == "" {
		return nil
	}
	target := j.dest[:len(j.dest)-len(j.rec.Path)] + j.rec.Hardlink
	if err := unix.Link(target, j.dest); err != nil {
		return fmt.Errorf("link %s to %s: %w", j.dest, target, err)
	}
	return nil
}

// tarHeader translates an entry.
func tarHeader(e *Entry) archive.Header {
	h := archive.Header{
		Name: e.Path, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime.Unix(),
		Linkname: e.Linkname, Xattrs: e.Xattrs, DevMajor: e.DevMajor, DevMinor: e.DevMinor,
	}
	switch e.Type {
	case TypeFile:
		h.Type, h.Size = '0', e.Size
		if e.Hardlink != "" {
			h.Type, h.Size, h.Linkname, h.Xattrs = '1', 0, e.Hardlink, nil
		}
	case TypeDir:
		h.Type = '5'
		h.Name += "/"
	case TypeSymlink:
		h.Type = '2'
	case TypeChar:
		h.Type = '3'
	case TypeBlock:
		h.Type = '4'
	case TypeFifo:
		h.Type = '6'
	case TypeWhiteout:
		dir, name := path.Split(e.Path)
		h = archive.Header{Name: dir + archive.WhiteoutPrefix + name, Type: '0'}
	}
	return h
}
