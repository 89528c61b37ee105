package snapshot

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"os"

	"github.com/opencontainers/go-digest"
)

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
