package tarsplit

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/storage"
)

// Writer writes a tarsplit file: what a tar has beside the contents of files, as
// entries of tar-split (docs/FORMAT.md, "Tarsplit"). Who reads the tar adds to a batch;
// a goroutine encodes whole batches, after others have computed the checksums of the
// files in them. Either Finish or Abort ends it.
type Writer struct {
	f       *os.File
	z       *zstd.Encoder
	cur     *batch
	full    chan *batch
	free    chan *batch
	wg      sync.WaitGroup
	err     error // of encoding; valid when wg is done
	headers int   // how many there were
	files   int   // how many of them had a content that is left out
}

const (
	batchParts = 256
	batchBytes = 128 << 10
)

// batch is some entries in their order.
type batch struct {
	raw    []byte // of all segments
	parts  []part
	begin  int            // where in raw the segment that is not yet a part begins
	writes sync.WaitGroup // of files whose checksum is not known yet
}

// part is a segment, if it has no name, or a file.
type part struct {
	from, to int // in raw
	isFile   bool
	name     string
	size     int64
	sum      uint64 // of the content
}

// Create begins the tarsplit file at path, which must not exist.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(256<<10))
	if err != nil {
		f.Close()
		return nil, err
	}
	const batches = 3
	w := &Writer{f: f, z: z, full: make(chan *batch, batches), free: make(chan *batch, batches)}
	for range batches {
		w.free <- &batch{parts: make([]part, 0, batchParts+1)} // never moved: see Sum
	}
	w.cur = <-w.free
	w.wg.Go(w.encode)
	return w, nil
}

// Entries returns how many headers were added.
func (w *Writer) Entries() int { return w.headers }

// bytes adds bytes that are kept as they are.
func (w *Writer) bytes(p []byte) {
	b := w.cur
	b.raw = append(b.raw, p...)
	if len(b.raw) >= batchBytes {
		b.endSegment()
		w.pass()
	}
}

// endSegment makes a part of the bytes that are none yet.
func (b *batch) endSegment() {
	if b.begin < len(b.raw) {
		b.parts = append(b.parts, part{from: b.begin, to: len(b.raw)})
		b.begin = len(b.raw)
	}
}

// Header adds what comes after a header: an entry whose content, if it has one, is
// kept with the bytes.
func (w *Writer) Header(name string) { w.part(part{isFile: true, name: name}) }

func (w *Writer) part(p part) *part {
	if len(w.cur.parts)+2 > batchParts {
		// Room for the segment before the part; a segment at the end of a batch
		// may go on in the next one.
		w.cur.endSegment()
		w.pass()
	}
	w.cur.endSegment()
	w.cur.parts = append(w.cur.parts, p)
	w.headers++
	return &w.cur.parts[len(w.cur.parts)-1]
}

// File adds a file's content, which is left out. It returns the content's number,
// from 0, and what is to be told its checksum before anything else is added, or
// elsewhere, after Later has been called.
func (w *Writer) File(name string, size int64) (int, Sum) {
	p := w.part(part{isFile: true, name: name, size: size})
	w.files++
	return w.files - 1, Sum{part: p, batch: w.cur}
}

// Sum receives the checksum of a file's content. The zero value does
// nothing with it.
type Sum struct {
	part  *part
	batch *batch
}

// Later announces that another goroutine will call Done.
func (c Sum) Later() {
	if c.part != nil {
		c.batch.writes.Add(1)
	}
}

// Done says that the checksum is complete, after Later.
func (c Sum) Done() {
	if c.part != nil {
		c.batch.writes.Done()
	}
}

// Add hashes some more of the content.
func (c Sum) Add(b []byte) {
	if c.part != nil {
		c.part.sum = updateCRC(c.part.sum, b)
	}
}

// Write implements io.Writer; it is Add.
func (c Sum) Write(b []byte) (int, error) {
	c.Add(b)
	return len(b), nil
}

func (w *Writer) pass() {
	w.full <- w.cur
	w.cur = <-w.free
}

// encode writes the batches that are passed to it.
func (w *Writer) encode() {
	p := newPacker(w.z)
	for b := range w.full {
		b.writes.Wait()
		for i := range b.parts {
			if w.err == nil {
				_, w.err = p.AddEntry(b.entry(&b.parts[i]))
			}
		}
		b.raw, b.parts, b.begin = b.raw[:0], b.parts[:0], 0
		w.free <- b
	}
}

func (b *batch) entry(p *part) storage.Entry {
	if !p.isFile {
		return storage.Entry{Type: storage.SegmentType, Payload: b.raw[p.from:p.to]}
	}
	e := storage.Entry{Type: storage.FileType, Size: p.size}
	e.SetName(p.name)
	if p.size > 0 {
		s := p.sum
		e.Payload = []byte{byte(s >> 56), byte(s >> 48), byte(s >> 40), byte(s >> 32), byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
	}
	return e
}

// Finish writes the rest. All checksums are known.
func (w *Writer) Finish() error {
	w.cur.endSegment()
	w.full <- w.cur
	w.end()
	err := errors.Join(w.err, w.z.Close(), w.f.Close())
	if err != nil {
		return fmt.Errorf("write tarsplit: %w", err)
	}
	return nil
}

// Abort closes the file of an unfinished tarsplit. Nobody computes checksums any
// more.
func (w *Writer) Abort() {
	w.end()
	w.z.Close()
	w.f.Close()
}

func (w *Writer) end() {
	close(w.full)
	w.wg.Wait()
}
