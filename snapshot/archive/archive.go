// Package archive reads tar streams, compressed or not, into directories, and
// encodes the canonical tar of a layer.
package archive

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"time"
)

// IsArchive reports whether data that begins with header is a tar, plain or
// compressed in a way that ADD unpacks. Of plain data, 512 bytes of header are
// enough; of compressed data it must hold enough to decompress that much, else the
// answer is no: where the whole file is at hand, use IsArchiveStream.
func IsArchive(header []byte) bool { return IsArchiveStream(bytes.NewReader(header)) }

// IsArchiveStream reads as much of a stream as it takes to say whether it is a
// tar, plain or compressed in a way that ADD unpacks. A stream compressed with xz
// is taken for an archive, so that Unpack refuses it by name.
func IsArchiveStream(r io.Reader) bool {
	z, c, err := Decompress(r)
	if err != nil {
		return c == XZ
	}
	defer z.Close()
	var block [blockSize]byte
	n, _ := io.ReadFull(z, block[:])
	return isTar(block[:n])
}

// isTar checks the checksum of a tar's first block.
func isTar(b []byte) bool {
	if len(b) < blockSize {
		return false
	}
	b = b[:blockSize]
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	want, ok := parseOctal(b[148:156])
	return ok && (want == unsigned || want == signed)
}

func parseOctal(b []byte) (int64, bool) {
	b = bytes.Trim(b, " \x00")
	var v int64
	for _, c := range b {
		if c < '0' || c > '7' {
			return 0, false
		}
		v = v<<3 | int64(c-'0')
	}
	return v, len(b) > 0
}

// Owner is a user and a group.
type Owner struct{ UID, GID uint32 }

// Options refine Unpack. The zero value keeps what the archive says.
type Options struct {
	// Owner, if set, owns everything that is unpacked.
	Owner *Owner
	// Mode, if set, is the mode of everything that is unpacked, but symlinks.
	Mode *uint32
	// Epoch, if set, is the latest modification time.
	Epoch *time.Time
}

// Unpack extracts a tar, compressed or not (found out from the content), below
// dest, an absolute path inside root. Symlinks are resolved in root and never
// lead out of it. Missing directories of dest are made (root-owned, or
// opts.Owner, 0755).
func Unpack(ctx context.Context, root, dest string, r io.Reader, opts Options) error {
	z, _, err := Decompress(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	defer z.Close()
	u, err := newUnpacker(root, dest, opts)
	if err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	defer u.close()
	if err := u.run(ctx, z); err != nil {
		return fmt.Errorf("unpack archive: %w", err)
	}
	return nil
}
