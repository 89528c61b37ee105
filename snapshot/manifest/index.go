package manifest

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sort"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A manifest file is: magic, records, offsets of the records (4 bytes each,
// little-endian), their number (8 bytes), magic again. So it can be searched
// without being decoded, and a cut-off file is noticed.
const magic = "layrman1"

// Reader streams the entries of a layer, parents before children, siblings
// sorted by name.
type Reader struct {
	idx  *Index
	next int
}

// NewReader begins to read.
func NewReader(x *Index) *Reader { return &Reader{idx: x} }

// Len returns the number of entries.
func (m *Reader) Len() int { return m.idx.Len() }

// Next returns the next entry, io.EOF after the last one.
func (m *Reader) Next() (*Entry, error) {
	if m.next >= m.idx.Len() {
		return nil, io.EOF
	}
	r, err := m.idx.Record(m.next)
	if err != nil {
		return nil, err
	}
	m.next++
	return &r.Entry, nil
}

// Find returns the entry of a path; the error matches fs.ErrNotExist if the layer
// has none.
func (m *Reader) Find(path string) (*Entry, error) {
	r, err := m.idx.Find(path)
	if err != nil {
		return nil, err
	}
	return &r.Entry, nil
}

// Close ends the reading.
func (m *Reader) Close() error { return nil }

// Index is a manifest in memory (mapped), open for binary search. It is safe for
// concurrent use.
type Index struct {
	data    []byte
	offsets []byte
}

// Open maps the manifest file at path; the error matches fs.ErrNotExist if there is
// none. The mapping goes when nothing refers to the Index any more.
func Open(path string) (*Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < 24 {
		return nil, fmt.Errorf("%s: %w", path, errDamaged)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	x := &Index{data: data}
	runtime.AddCleanup(x, func(d []byte) { unix.Munmap(d) }, data)
	tail := len(data) - 16
	n := binary.LittleEndian.Uint64(data[tail:])
	if string(data[:8]) != magic || string(data[tail+8:]) != magic || n > uint64(tail-8)/4 {
		return nil, fmt.Errorf("%s: %w", path, errDamaged)
	}
	x.offsets = data[tail-int(n)*4 : tail]
	return x, nil
}

// Len returns the number of entries.
func (x *Index) Len() int { return len(x.offsets) / 4 }

// raw returns the encoded record i; the bytes are valid while x is alive.
func (x *Index) raw(i int) ([]byte, error) {
	off := uint64(binary.LittleEndian.Uint32(x.offsets[4*i:]))
	end := uint64(len(x.data) - 16 - len(x.offsets))
	if i+1 < x.Len() {
		end = uint64(binary.LittleEndian.Uint32(x.offsets[4*(i+1):]))
	}
	if off < 8 || end < off || end > uint64(len(x.data)) {
		return nil, errDamaged
	}
	return x.data[off:end], nil
}

// Record decodes entry i, which is the caller's.
func (x *Index) Record(i int) (*Record, error) {
	b, err := x.raw(i)
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(b)
	runtime.KeepAlive(x)
	return r, err
}

// search returns the first record whose path is not before p in manifest order.
func (x *Index) search(p string) int {
	i := sort.Search(x.Len(), func(i int) bool {
		b, err := x.raw(i)
		if err != nil {
			return true
		}
		d := decoder{b: b}
		return ComparePaths(string(d.text()), p) >= 0
	})
	runtime.KeepAlive(x)
	return i
}

// Find returns the entry of a path, which is the caller's; the error is
// fs.ErrNotExist if the layer has none.
func (x *Index) Find(p string) (*Record, error) {
	i := x.search(p)
	if i < x.Len() {
		r, err := x.Record(i)
		if err != nil {
			return nil, err
		}
		if r.Path == p {
			return r, nil
		}
	}
	return nil, fs.ErrNotExist
}

// Content returns the digest of the entries, as Writer.Finish does.
func (x *Index) Content() (digest.Digest, error) {
	c := newContent()
	for i := range x.Len() {
		r, err := x.Record(i)
		if err != nil {
			return "", err
		}
		c.add(r)
	}
	return c.digest(), nil
}

// Children calls fn for the direct children of a directory.
func (x *Index) Children(dir string, fn func(*Record)) error {
	i := 0
	if dir != "." {
		i = x.search(dir)
	}
	for i < x.Len() {
		r, err := x.Record(i)
		if err != nil {
			return err
		}
		if r.Path == dir {
			i++
			continue
		}
		if !IsBelow(r.Path, dir) {
			return nil
		}
		fn(r)
		// A whole subtree is skipped by looking for the first path after it:
		// "\x00" is the smallest byte after "/" in this order.
		i++
		if r.Type == TypeDir && i < x.Len() {
			i = x.search(r.Path + "\x00")
		}
	}
	return nil
}
