package mounts

import (
	"crypto/sha256"
	"encoding/binary"
	"io"
)

// Sizes of chunks, in bytes. The average is near avgChunk.
const (
	minChunk = 16 << 10
	avgChunk = 64 << 10
	maxChunk = 256 << 10
)

// A cut is where the gear hash is below these: less likely before a chunk has the average
// size (18 bits are zero), more likely behind it (14 bits).
const (
	rare     = 1 << (64 - 18)
	frequent = 1 << (64 - 14)
)

// gear are the numbers that stand for bytes. They are part of the format: of the byte b the
// first 8 bytes of the sha256 of "builder-gear" and b, little-endian.
type gear [256]uint64

func newGear() *gear {
	g := new(gear)
	for b := range g {
		sum := sha256.Sum256(append([]byte("builder-gear"), byte(b)))
		g[b] = binary.LittleEndian.Uint64(sum[:])
	}
	return g
}

// cut returns where the first chunk of data ends; data holds maxChunk bytes, or all that is
// left (FastCDC, Xia et al., USENIX ATC 2016, with normalized chunking).
func (g *gear) cut(data []byte) int {
	if len(data) <= minChunk {
		return len(data)
	}
	end := min(len(data), maxChunk)
	middle := min(end, avgChunk)
	var h uint64
	i := minChunk
	for ; i < middle; i++ {
		if h = h<<1 + g[data[i]]; h < rare {
			return i + 1
		}
	}
	for ; i < end; i++ {
		if h = h<<1 + g[data[i]]; h < frequent {
			return i + 1
		}
	}
	return end
}

// chunks calls fn for every chunk of a stream; the bytes are valid until it returns.
func (g *gear) chunks(r io.Reader, fn func([]byte) error) error {
	buf := make([]byte, 0, 8*maxChunk)
	at := 0
	for ended := false; ; {
		if !ended && len(buf)-at < maxChunk {
			n := copy(buf, buf[at:])
			at = 0
			m, err := io.ReadFull(r, buf[n:cap(buf)])
			buf = buf[:n+m]
			if ended = err == io.EOF || err == io.ErrUnexpectedEOF; err != nil && !ended {
				return err
			}
		}
		if at == len(buf) {
			return nil
		}
		n := g.cut(buf[at:])
		if err := fn(buf[at : at+n]); err != nil {
			return err
		}
		at += n
	}
}
