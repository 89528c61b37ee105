package mounts

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	"golang.org/x/sys/unix"
)

// piece is a part of the stream that is one of a file, in one piece.
type piece struct {
	entry  int
	from   int64 // in the stream
	offset int64 // in the file
	length int64
}

// stream is what the stream is made of.
type stream struct {
	pieces []piece
	size   int64
}

func newStream(entries []Entry) stream {
	var s stream
	add := func(i int, x Extent) {
		if x.Length > 0 {
			s.pieces = append(s.pieces, piece{entry: i, from: s.size, offset: x.Offset, length: x.Length})
			s.size += x.Length
		}
	}
	for i := range entries {
		switch e := &entries[i]; {
		case e.Kind != KindFile:
		case e.Sparse:
			for _, x := range e.Extents {
				add(i, x)
			}
		default:
			add(i, Extent{0, e.Size})
		}
	}
	return s
}

// at is which of the pieces has the byte at an offset; -1 is none.
func (s *stream) at(offset int64) int {
	if offset >= s.size {
		return -1
	}
	return sort.Search(len(s.pieces), func(i int) bool { return s.pieces[i].from > offset }) - 1
}

// streamReader reads the stream of a tree. Files that are not any more what they were make
// it fail with ErrChanged.
type streamReader struct {
	t     *Tree
	root  *os.Root
	paths *paths
	n     int      // of stream.pieces, that which is read
	f     *os.File // nil: none is open
	entry int      // of f
	left  int64    // of the piece
	was   unix.Stat_t
}

// open returns a reader of the stream from an offset; the caller closes it.
func (t *Tree) open(root *os.Root, p *paths, offset int64) (*streamReader, error) {
	r := &streamReader{t: t, root: root, paths: p, n: t.stream.at(offset)}
	if r.n < 0 {
		r.n = len(t.stream.pieces)
		return r, nil
	}
	if err := r.next(offset - t.stream.pieces[r.n].from); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// next begins the piece that is read next, without some of its bytes.
func (r *streamReader) next(skip int64) error {
	p := &r.t.stream.pieces[r.n]
	if r.f != nil && r.entry != p.entry {
		if err := r.done(); err != nil {
			return err
		}
	}
	if r.f == nil {
		if err := r.openFile(p.entry); err != nil {
			return err
		}
	}
	r.left = p.length - skip
	_, err := r.f.Seek(p.offset+skip, io.SeekStart)
	return err
}

func (r *streamReader) openFile(i int) error {
	e := &r.t.Entries[i]
	f, err := r.root.OpenFile(r.paths.of(i), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	err = unix.Fstat(int(f.Fd()), &r.was)
	if err == nil && (r.was.Mode&unix.S_IFMT != unix.S_IFREG || r.was.Size != e.Size || r.was.Mtim.Nano() != e.ModTime.UnixNano()) {
		err = fmt.Errorf("%s: %w", r.paths.of(i), ErrChanged)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r.f, r.entry = f, i
	return nil
}

// Read implements io.Reader.
func (r *streamReader) Read(p []byte) (int, error) {
	for r.f == nil || r.left == 0 {
		if r.f != nil {
			r.n++
		}
		if r.n >= len(r.t.stream.pieces) {
			if r.f != nil {
				if err := r.done(); err != nil {
					return 0, err
				}
			}
			return 0, io.EOF
		}
		if err := r.next(0); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s: %w", r.f.Name(), ErrChanged)
	}
	return n, err
}

// done closes a file that was read.
func (r *streamReader) done() error {
	var now unix.Stat_t
	err := unix.Fstat(int(r.f.Fd()), &now)
	if err == nil && (now.Size != r.was.Size || now.Mtim != r.was.Mtim || now.Ctim != r.was.Ctim) {
		err = fmt.Errorf("%s: %w", r.f.Name(), ErrChanged)
	}
	return errors.Join(err, r.Close())
}

// Close implements io.Closer.
func (r *streamReader) Close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}
