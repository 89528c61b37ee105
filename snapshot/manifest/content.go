package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/opencontainers/go-digest"
)

// content computes the digest of a list of entries: of all that is known of them but
// times and where their contents lie.
type content struct {
	h   hash.Hash
	buf []byte
}

func newContent() *content { return &content{h: sha256.New()} }

func (c *content) add(r *Record) {
	c.buf = appendRecord(append(c.buf[:0], 0, 0, 0, 0), r, true)
	binary.LittleEndian.PutUint32(c.buf, uint32(len(c.buf)-4))
	c.h.Write(c.buf)
}

func (c *content) digest() digest.Digest { return digest.NewDigest(digest.SHA256, c.h) }
