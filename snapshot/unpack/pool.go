package unpack

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/sparse"
	"layered.build/builder/snapshot/tarsplit"
)

// writePool writes and hashes small files in goroutines while their successors
// are read from a stream.
type writePool struct {
	m    *object.Maker
	jobs chan *writeJob
	free chan *writeJob
	wg   sync.WaitGroup

	pending []*fileInode // since the last wait; only the owner's
	big     []byte       // for large; only the owner's
	// leavesOut: some digest leaves runs of zeros out. Only the owner's.
	leavesOut bool
	mu        sync.Mutex // guards err
	err       error
}

type writeJob struct {
	path string
	node *node
	// entry is a copy: the node may get other metadata before it is written.
	entry manifest.Entry
	buf   []byte
	sum   tarsplit.Sum
}

const poolWindow = 32

func newWritePool(m *object.Maker) *writePool {
	p := &writePool{m: m, jobs: make(chan *writeJob, poolWindow), free: make(chan *writeJob, poolWindow)}
	for range poolWindow {
		p.free <- &writeJob{}
	}
	for range 2 {
		p.wg.Go(func() {
			for j := range p.jobs {
				if err := p.write(j); err != nil {
					p.mu.Lock()
					p.err = errors.Join(p.err, err)
					p.mu.Unlock()
				}
				p.free <- j
			}
		})
	}
	return p
}

func (p *writePool) write(j *writeJob) error {
	j.sum.Add(j.buf)
	j.sum.Done()
	sum := sha256.Sum256(j.buf)
	j.node.ino.digest = digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
	return p.m.WriteFile(j.path, &j.entry, j.buf)
}

func (p *writePool) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// small reads a file of at most smallFile bytes and leaves it to the goroutines.
func (p *writePool) small(path string, n *node, r io.Reader, sum tarsplit.Sum) error {
	if err := p.failed(); err != nil {
		return err
	}
	j := <-p.free
	size := int(n.entry.Size)
	if cap(j.buf) < size {
		j.buf = make([]byte, bufferFor(size))
	}
	j.buf = j.buf[:size]
	if _, err := io.ReadFull(r, j.buf); err != nil {
		p.free <- j
		return noEOF(err)
	}
	j.path, j.node, j.entry, j.sum = path, n, n.entry, sum
	sum.Later()
	n.ino.writing = true
	p.pending = append(p.pending, n.ino)
	p.jobs <- j
	return nil
}

// bufferFor rounds up, so that a buffer is not replaced by slightly larger ones.
func bufferFor(size int) int {
	if size <= 8<<10 {
		return 8 << 10
	}
	return object.SmallFile
}

// wait returns when everything that was given to small is written.
func (p *writePool) wait() error {
	if len(p.pending) == 0 {
		return p.failed()
	}
	var all []*writeJob
	for range poolWindow {
		all = append(all, <-p.free)
	}
	for _, j := range all {
		p.free <- j
	}
	for _, ino := range p.pending {
		ino.writing = false
	}
	p.pending = p.pending[:0]
	return p.failed()
}

// close waits and ends the goroutines.
func (p *writePool) close() error {
	err := p.wait()
	close(p.jobs)
	p.wg.Wait()
	return err
}

// fileSink says what becomes of a large file's bytes, besides being written.
type fileSink struct {
	sparse bool // the stream does not have its holes
	sum    tarsplit.Sum
	grow   func(bytes int64) error
}

// large writes a file while it is read.
func (p *writePool) large(path string, n *node, r io.Reader, to fileSink) (err error) {
	f, err := object.CreateFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if p.big == nil {
		p.big = make([]byte, object.SmallFile)
	}
	h := sparse.New()
	w := &holeWriter{f: f, block: object.SmallFile}
	if to.sparse {
		w.block, w.grow = len(zeroPage), to.grow
	}
	got, err := io.CopyBuffer(io.MultiWriter(w, h, to.sum), struct{ io.Reader }{r}, p.big)
	if err != nil {
		return err
	}
	if got != n.entry.Size {
		return fmt.Errorf("%d bytes instead of %d", got, n.entry.Size)
	}
	if err := f.Truncate(got); err != nil { // it may end with zeros
		return err
	}
	n.ino.digest = h.Digest()
	p.leavesOut = p.leavesOut || h.LeavesOut()
	return p.m.SetFileMeta(f, &n.entry)
}

// holeWriter writes a file without its blocks of zeros.
type holeWriter struct {
	f     *os.File
	block int                     // their size
	grow  func(bytes int64) error // told of what is written; may be nil
}

// Write implements io.Writer.
func (w *holeWriter) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		part := b[done:min(done+w.block, len(b))]
		if err := w.put(part); err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

func (w *holeWriter) put(part []byte) error {
	if len(part)%len(zeroPage) == 0 && sparse.IsZero(part) {
		_, err := w.f.Seek(int64(len(part)), io.SeekCurrent)
		return err
	}
	if w.grow != nil {
		if err := w.grow(2 * int64(len(part))); err != nil { // it is in the tarsplit as well
			return err
		}
	}
	_, err := w.f.Write(part)
	return err
}

var zeroPage [4096]byte

// noEOF keeps a cut-off file from looking like a complete one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
