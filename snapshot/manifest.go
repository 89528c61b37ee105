package snapshot

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sort"

	"crypto/sha256"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// A manifest file is: magic, records, offsets of the records (4 bytes each,
// little-endian), their number (8 bytes), magic again. So it can be searched
// without being decoded, and a cut-off file is noticed.
const manifestMagic = "layrman1"

// Manifest streams the entries of a layer, parents before children, siblings
// sorted by name.
type Manifest struct {
	idx  *index
	next int
}

// Len returns the number of entries.
func (m *Manifest) Len() int { return m.idx.len() }

// Next returns the next entry, io.EOF after the last one.
func (m *Manifest) Next() (*Entry, error) {
	if m.next >= m.idx.len() {
		return nil, io.EOF
	}
	r, err := m.idx.record(m.next)
	if err != nil {
		return nil, err
	}
	m.next++
	return &r.Entry, nil
}

// Find returns the entry of a path; the error matches fs.ErrNotExist if the layer
// has none.
func (m *Manifest) Find(path string) (*Entry, error) {
	r, err := m.idx.find(path)
	if err != nil {
		return nil, err
	}
	return &r.Entry, nil
}

// Close ends the reading.
func (m *Manifest) Close() error { return nil }

// index is a manifest in memory (mapped), open for binary search. It is safe for
// concurrent use.
type index struct {
	data    []byte
	offsets []byte
}

func openIndex(path string) (*index, error) {
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
	x := &index{data: data}
	runtime.AddCleanup(x, func(d []byte) { unix.Munmap(d) }, data)
	tail := len(data) - 16
	n := binary.LittleEndian.Uint64(data[tail:])
	if string(data[:8]) != manifestMagic || string(data[tail+8:]) != manifestMagic || n > uint64(tail-8)/4 {
		return nil, fmt.Errorf("%s: %w", path, errDamaged)
	}
	x.offsets = data[tail-int(n)*4 : tail]
	return x, nil
}

func (x *index) len() int { return len(x.offsets) / 4 }

// raw returns the encoded record i; the bytes are valid while x is alive.
func (x *index) raw(i int) ([]byte, error) {
	off := uint64(binary.LittleEndian.Uint32(x.offsets[4*i:]))
	end := uint64(len(x.data) - 16 - len(x.offsets))
	if i+1 < x.len() {
		end = uint64(binary.LittleEndian.Uint32(x.offsets[4*(i+1):]))
	}
	if off < 8 || end < off || end > uint64(len(x.data)) {
		return nil, errDamaged
	}
	return x.data[off:end], nil
}

func (x *index) record(i int) (*record, error) {
	b, err := x.raw(i)
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(b)
	runtime.KeepAlive(x)
	return r, err
}

// search returns the first record whose path is not before p in manifest order.
func (x *index) search(p string) int {
	i := sort.Search(x.len(), func(i int) bool {
		b, err := x.raw(i)
		if err != nil {
			return true
		}
		d := decoder{b: b}
		return comparePaths(string(d.text()), p) >= 0
	})
	runtime.KeepAlive(x)
	return i
}

func (x *index) find(p string) (*record, error) {
	i := x.search(p)
	if i < x.len() {
		r, err := x.record(i)
		if err != nil {
			return nil, err
		}
		if r.Path == p {
			return r, nil
		}
	}
	return nil, fs.ErrNotExist
}

// children calls fn for the direct children of a directory.
func (x *index) children(dir string, fn func(*record)) error {
	i := 0
	if dir != "." {
		i = x.search(dir)
	}
	for i < x.len() {
		r, err := x.record(i)
		if err != nil {
			return err
		}
		if r.Path == dir {
			i++
			continue
		}
		if !isBelow(r.Path, dir) {
			return nil
		}
		fn(r)
		// A whole subtree is skipped by looking for the first path after it:
		// "\x00" is the smallest byte after "/" in this order.
		i++
		if r.Type == TypeDir && i < x.len() {
			i = x.search(r.Path + "\x00")
		}
	}
	return nil
}

func isBelow(p, dir string) bool {
	if dir == "." {
		return p != "."
	}
	return len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

// manifestWriter writes a manifest file and computes the content digest. Records
// come in manifest order.
type manifestWriter struct {
	f       *os.File
	w       *bufio.Writer
	offsets []byte
	pos     int64
	content hash.Hash
	buf     []byte
	last    string
	n       int
}

func newManifestWriter(path string) (*manifestWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	m := &manifestWriter{f: f, w: bufio.NewWriterSize(f, 64<<10), content: sha256.New()}
	m.w.WriteString(manifestMagic)
	m.pos = int64(len(manifestMagic))
	return m, nil
}

func (m *manifestWriter) add(r *record) error {
	if m.n > 0 && comparePaths(m.last, r.Path) >= 0 {
		return fmt.Errorf("manifest: %q after %q", r.Path, m.last)
	}
	m.last = r.Path
	m.n++
	m.buf = appendRecord(m.buf[:0], r, true)
	var size [4]byte
	binary.LittleEndian.PutUint32(size[:], uint32(len(m.buf)))
	m.content.Write(size[:])
	m.content.Write(m.buf)
	if m.pos > 1<<32-1 {
		return fmt.Errorf("manifest: more than 4 GiB")
	}
	m.offsets = binary.LittleEndian.AppendUint32(m.offsets, uint32(m.pos))
	m.buf = appendRecord(m.buf[:0], r, false)
	m.pos += int64(len(m.buf))
	_, err := m.w.Write(m.buf)
	return err
}

// finish completes the file and returns the content digest.
func (m *manifestWriter) finish() (digest.Digest, error) {
	m.w.Write(m.offsets)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(m.n))
	m.w.Write(n[:])
	m.w.WriteString(manifestMagic)
	err := m.w.Flush()
	if cerr := m.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	return digest.NewDigest(digest.SHA256, m.content), nil
}

// abort closes the file of an unfinished manifest.
func (m *manifestWriter) abort() { m.f.Close() }
