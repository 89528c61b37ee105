// Package archive finds out and undoes the compression of tars, and encodes the canonical
// tar of a layer.
package archive

import (
	"bytes"
	"io"
)

// IsArchive reports whether data that begins with header is a tar, plain or
// compressed in a way that ADD unpacks. Of plain data, 512 bytes of header are
// enough; of compressed data it must hold enough to decompress that much, else the
// answer is no. What is compressed with xz is taken for an archive, so that who unpacks
// it refuses it by name.
func IsArchive(header []byte) bool {
	z, c, err := Decompress(bytes.NewReader(header))
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
