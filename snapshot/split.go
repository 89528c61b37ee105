package snapshot

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/zstd"
)

// A tarsplit file is a zstd stream of parts, which put together are the tar of a
// pulled layer, bit for bit: bytes that are kept as they were, and contents of
// files that are in the layer's directory (docs/FORMAT.md, "Tarsplit").
const (
	partBytes = 0 // uvarint length, bytes
	partFile  = 1 // uvarint size, uvarint length of the path, path
)

const maxPart = 1 << 20

// splitWriter writes a tarsplit file. Files are numbered from 0.
type splitWriter struct {
	f     *os.File
	z     *zstd.Encoder
	buf   []byte
	seg   []byte // bytes that are not written yet
	files int
	err   error
}

func newSplitWriter(path string) (*splitWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(256<<10))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &splitWriter{f: f, z: z}, nil
}

// bytes adds bytes that are kept as they are.
func (w *splitWriter) bytes(p []byte) {
	w.seg = append(w.seg, p...)
	if len(w.seg) >= 64<<10 {
		w.flush()
	}
}

func (w *splitWriter) flush() {
	if len(w.seg) == 0 {
		return
	}
	w.buf = append(w.buf[:0], partBytes)
	w.buf = binary.AppendUvarint(w.buf, uint64(len(w.seg)))
	w.write(w.buf)
	w.write(w.seg)
	w.seg = w.seg[:0]
}

// file adds a file's content and returns its number.
func (w *splitWriter) file(path string, size int64) int {
	w.flush()
	w.buf = append(w.buf[:0], partFile)
	w.buf = binary.AppendUvarint(w.buf, uint64(size))
	w.buf = appendText(w.buf, path)
	w.write(w.buf)
	w.files++
	return w.files - 1
}

func (w *splitWriter) write(p []byte) {
	if w.err == nil {
		_, w.err = w.z.Write(p)
	}
}

func (w *splitWriter) finish() error {
	w.flush()
	err := errors.Join(w.err, w.z.Close(), w.f.Close())
	if err != nil {
		return fmt.Errorf("write tarsplit: %w", err)
	}
	return nil
}

// abort closes the file of an unfinished tarsplit.
func (w *splitWriter) abort() {
	w.z.Close()
	w.f.Close()
}

// splitReader passes a stream on and keeps in a tarsplit what is read while keep
// is set.
type splitReader struct {
	r    io.Reader
	w    *splitWriter
	keep bool
}

// Read implements io.Reader.
func (s *splitReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.keep {
		s.w.bytes(p[:n])
	}
	return n, err
}

// assemble writes the tar of a pulled layer.
func assemble(ctx context.Context, layer string, w io.Writer) error {
	f, err := os.Open(filepath.Join(layer, splitFile))
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	out := bufio.NewWriterSize(w, sinkChunk)
	a := &assembler{layer: layer, r: bufio.NewReader(z), out: out, buf: make([]byte, 64<<10)}
	for ctx.Err() == nil {
		err := a.part()
		if err == io.EOF {
			return out.Flush()
		}
		if err != nil {
			return fmt.Errorf("assemble tar: %w", err)
		}
	}
	return context.Cause(ctx)
}

type assembler struct {
	layer string
	r     *bufio.Reader
	out   *bufio.Writer
	buf   []byte
	files int
}

func (a *assembler) part() error {
	kind, err := a.r.ReadByte()
	if err != nil {
		return err
	}
	n, err := binary.ReadUvarint(a.r)
	if err != nil {
		return noEOF(err)
	}
	switch kind {
	case partBytes:
		_, err = io.CopyN(a.out, a.r, int64(n))
		return noEOF(err)
	case partFile:
		return a.file(int64(n))
	}
	return fmt.Errorf("unknown part %d", kind)
}

func (a *assembler) file(size int64) error {
	n, err := binary.ReadUvarint(a.r)
	if err != nil || n > maxPart {
		return errors.Join(noEOF(err), errDamaged)
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(a.r, name); err != nil {
		return noEOF(err)
	}
	f, err := os.Open(filepath.Join(a.layer, dupForm, strconv.Itoa(a.files)))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(filepath.Join(a.layer, dirForm, string(name)))
	}
	if err != nil {
		return err
	}
	defer f.Close()
	a.files++
	_, err = io.CopyBuffer(struct{ io.Writer }{a.out}, struct{ io.Reader }{io.LimitReader(f, size)}, a.buf)
	return err
}

// noEOF keeps a cut-off file from looking like a complete one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
