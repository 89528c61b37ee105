package tarsplit

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

// errDamaged says that a tarsplit cannot be read.
var errDamaged = errors.New("tarsplit is damaged or has another format")

// Forms are where the parts of a layer are.
type Forms struct {
	// Split is the tarsplit.
	Split string
	// Dir has the files by their paths.
	Dir string
	// Dup has contents that are in Dir no more, named by their number (Writer.File).
	Dup string
}

// Assemble writes the tar of a layer to w. Whether it is the right one its digest says.
func Assemble(ctx context.Context, layer Forms, w io.Writer) error {
	f, err := os.Open(layer.Split)
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
	if err := asm.WriteOutputTarStream(&contents{Forms: layer}, unpackerFunc(next), out); err != nil {
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
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return &e, nil
}

// contents gives the contents of a layer's files in the order of its tar.
type contents struct {
	Forms
	n int
}

// Get implements storage.FileGetter.
func (c *contents) Get(name string) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(c.Dup, strconv.Itoa(c.n)))
	if errors.Is(err, fs.ErrNotExist) {
		f, err = os.Open(filepath.Join(c.Dir, path.Clean("/"+name)))
	}
	if err != nil {
		return nil, err // not a nil *os.File
	}
	c.n++
	return f, nil
}
