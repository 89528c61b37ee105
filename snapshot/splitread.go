package snapshot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// errSplit says that a tarsplit cannot be read.
var errSplit = errors.New("tarsplit is damaged or has another format")

// splitPacker is tar-split's JSON packer, save that one path may come several
// times, as it does in some tars.
type splitPacker struct {
	enc *json.Encoder
	pos int
}

var _ storage.Packer = (*splitPacker)(nil)

func newSplitPacker(w io.Writer) *splitPacker { return &splitPacker{enc: json.NewEncoder(w)} }

// AddEntry implements storage.Packer.
func (p *splitPacker) AddEntry(e storage.Entry) (int, error) {
	e.Position = p.pos
	if err := p.enc.Encode(e); err != nil {
		return -1, err
	}
	p.pos++
	return e.Position, nil
}

// splitReader passes a stream on and keeps in a tarsplit what is read while keep
// is set.
type splitReader struct {
	r    io.Reader
	w    *splitWriter
	keep bool
}

// newSplitReader returns a reader that keeps what is read.
func newSplitReader(r io.Reader, w *splitWriter) *splitReader {
	return &splitReader{r: r, w: w, keep: true}
}

// Read implements io.Reader.
func (s *splitReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.keep {
		s.w.bytes(p[:n])
	}
	return n, err
}

// splitForms are where the parts of a pulled layer are: the tarsplit, the directory, and
// contents that are in the directory no more, by their number.
type splitForms struct{ split, dir, dup string }

// assemble writes the tar of a pulled layer.
func assemble(ctx context.Context, layer splitForms, w io.Writer) error {
	f, err := os.Open(layer.split)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return err
	}
	defer z.Close()
	out := bufio.NewWriterSize(w, 256<<10)
	dec := json.NewDecoder(z)
	next := func() (*storage.Entry, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nextEntry(dec)
	}
	if err := asm.WriteOutputTarStream(&contents{splitForms: layer}, unpackerFunc(next), out); err != nil {
		return fmt.Errorf("assemble tar: %w", err)
	}
	return out.Flush()
}

// unpackerFunc is a storage.Unpacker. Unlike tar-split's own it accepts a path
// that comes twice.
type unpackerFunc func() (*storage.Entry, error)

// Next implements storage.Unpacker.
func (u unpackerFunc) Next() (*storage.Entry, error) { return u() }

func nextEntry(dec *json.Decoder) (*storage.Entry, error) {
	var e storage.Entry
	err := dec.Decode(&e)
	if err == io.EOF {
		return nil, err
	}
	if err == nil && e.Type != storage.SegmentType && e.Type != storage.FileType {
		err = fmt.Errorf("unknown type %d", e.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSplit, err)
	}
	return &e, nil
}

// contents gives the contents of a layer's files in the order of its tar.
type contents struct {
	splitForms
	n int
}

// Get implements storage.FileGetter.
func (c *contents) Get(name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(c.dup, strconv.Itoa(c.n)))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(filepath.Join(c.dir, path.Clean("/"+name)))
	}
	if err != nil {
		return nil, err // not a nil *os.File
	}
	c.n++
	return f, nil
}
