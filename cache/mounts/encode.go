package mounts

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

const magic = "builder-mount 1\n"

// endOfDir ends what a folder has.
const endOfDir = 'e'

// Encode makes the bytes of a manifest.
func (m *Manifest) Encode() ([]byte, error) {
	b, err := m.text()
	if err != nil {
		return nil, err
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return w.EncodeAll(b, nil), nil
}

// text is a manifest before it is compressed.
func (m *Manifest) text() ([]byte, error) {
	if len(m.Entries) > maxEntries || len(m.Chunks) > maxChunks || len(m.Packs) > maxPacks {
		return nil, fmt.Errorf("%d files: %w", len(m.Entries), ErrLimit)
	}
	b := append([]byte(magic), encodeEntries(nil, m.Entries, true)...)
	b = binary.AppendUvarint(b, uint64(len(m.Packs)))
	for _, p := range m.Packs {
		raw, err := hex.DecodeString(p.Digest.Encoded())
		if err != nil || p.Digest.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("pack %s: %w", p.Digest, ErrDamaged)
		}
		b = binary.AppendUvarint(append(b, raw...), uint64(p.Size))
	}
	b = binary.AppendUvarint(b, uint64(len(m.Chunks)))
	pack, offset := 0, int64(0)
	for i := range m.Chunks {
		c := &m.Chunks[i]
		if c.Pack != pack {
			offset = 0
		}
		b = append(b, c.Digest[:]...)
		b = binary.AppendUvarint(b, uint64(c.Size))
		b = binary.AppendVarint(b, int64(c.Pack-pack))
		b = binary.AppendVarint(b, c.Offset-offset)
		b = binary.AppendUvarint(b, uint64(c.Stored))
		pack, offset = c.Pack, c.Offset+int64(c.Stored)
	}
	b = binary.AppendUvarint(b, uint64(len(m.Stream)))
	next := 0
	for _, c := range m.Stream {
		b = binary.AppendVarint(b, int64(c-next))
		next = c + 1
	}
	if len(b) > maxManifest {
		return nil, fmt.Errorf("a list of %d bytes: %w", len(b), ErrLimit)
	}
	return b, nil
}

// Listing is a digest of what stat says of all entries. Times of folders are left out, which
// change when something was there for a while, and so is where files have holes.
func Listing(entries []Entry) digest.Digest {
	sum := sha256.Sum256(encodeEntries(nil, entries, false))
	return digest.NewDigestFromBytes(digest.SHA256, sum[:])
}

// encodeEntries encodes all of the entries, or else what a listing has of them.
func encodeEntries(b []byte, entries []Entry, whole bool) []byte {
	open := []int{} // the folders that the next entry is in
	for i := range entries {
		e := &entries[i]
		for len(open) > 0 && open[len(open)-1] != e.Parent {
			b, open = append(b, endOfDir), open[:len(open)-1]
		}
		b = encodeEntry(b, e, whole)
		if e.Kind == KindDir {
			open = append(open, i)
		}
	}
	for range open {
		b = append(b, endOfDir)
	}
	return b
}

func encodeEntry(b []byte, e *Entry, whole bool) []byte {
	b = appendText(append(b, byte(e.Kind)), e.Name)
	if e.Kind == KindHard {
		return binary.AppendUvarint(b, uint64(e.File))
	}
	b = binary.AppendUvarint(b, uint64(e.Mode))
	b = binary.AppendUvarint(b, uint64(e.UID))
	b = binary.AppendUvarint(b, uint64(e.GID))
	if whole || e.Kind != KindDir {
		b = binary.AppendVarint(b, e.ModTime.Unix())
		b = binary.AppendUvarint(b, uint64(e.ModTime.Nanosecond()))
	}
	switch e.Kind {
	case KindFile:
		b = binary.AppendUvarint(b, uint64(e.Size))
		if whole {
			b = encodeExtents(b, e)
		}
	case KindLink:
		b = appendText(b, e.Target)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Xattrs)))
	for _, k := range slices.SortedFunc(maps.Keys(e.Xattrs), cmp.Compare[string]) {
		b = appendText(appendText(b, k), e.Xattrs[k])
	}
	return b
}

// encodeExtents writes 0 for a file that has no holes, else 1 more than there are extents,
// and each as its distance from the one before and its length.
func encodeExtents(b []byte, e *Entry) []byte {
	if !e.Sparse {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Extents))+1)
	end := int64(0)
	for _, x := range e.Extents {
		b = binary.AppendUvarint(b, uint64(x.Offset-end))
		b = binary.AppendUvarint(b, uint64(x.Length))
		end = x.Offset + x.Length
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
