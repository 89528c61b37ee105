package manifest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
)

// Writer writes a manifest file and computes the content digest. Either Finish or
// Abort ends it.
type Writer struct {
	f       *os.File
	w       *bufio.Writer
	offsets []byte
	pos     int64
	content *content
	buf     []byte
	last    string
	n       int
}

// Create begins the manifest file at path, which must not exist.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	m := &Writer{f: f, w: bufio.NewWriterSize(f, 64<<10), content: newContent()}
	m.w.WriteString(magic)
	m.pos = int64(len(magic))
	return m, nil
}

// Add adds a record. They come in the order of ComparePaths, each path once.
func (m *Writer) Add(r *Record) error {
	if m.n > 0 && ComparePaths(m.last, r.Path) >= 0 {
		return fmt.Errorf("manifest: %q after %q", r.Path, m.last)
	}
	m.last = r.Path
	m.n++
	m.content.add(r)
	if m.pos > 1<<32-1 {
		return fmt.Errorf("manifest: more than 4 GiB")
	}
	m.offsets = binary.LittleEndian.AppendUint32(m.offsets, uint32(m.pos))
	m.buf = appendRecord(m.buf[:0], r, false)
	m.pos += int64(len(m.buf))
	_, err := m.w.Write(m.buf)
	return err
}

// Finish completes the file and returns the content digest.
func (m *Writer) Finish() (digest.Digest, error) {
	m.w.Write(m.offsets)
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(m.n))
	m.w.Write(n[:])
	m.w.WriteString(magic)
	err := m.w.Flush()
	if cerr := m.f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", fmt.Errorf("write manifest: %w", err)
	}
	return m.content.digest(), nil
}

// Abort closes the file of an unfinished manifest.
func (m *Writer) Abort() { m.f.Close() }
