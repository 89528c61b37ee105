package sparse

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
)

const (
	// Run is how long a run of zeros has to be, in bytes, for Hash to leave it out.
	Run = 256 << 20
	// block is what runs consist of; they begin at its multiples.
	block = 1 << 20
)

// Hash makes the content digest of a file: the sha256 of its bytes, unless the file has
// runs of zeros that are as long as Run. Those are not hashed; their places are
// (docs/FORMAT.md). What the digest is depends on the bytes alone, not on whether the
// zeros were written.
type Hash struct {
	h   hash.Hash
	pos int64
	// zeros is how many were seen last and not yet hashed; they begin with a block.
	zeros int64
	// data says that the block at pos has other bytes too.
	data bool
	runs []byte // offset and length of each, 8 bytes each, little-endian
	left int64  // bytes that were left out
}

// New returns the Hash of an empty file.
func New() *Hash { return &Hash{h: sha256.New()} }

// Write implements io.Writer; it never fails.
func (h *Hash) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part := b[:min(int64(len(b)), block-h.pos%block)]
		if !h.data && IsZero(part) {
			h.Zeros(int64(len(part)))
		} else {
			h.flush(h.zeros / block * block)
			h.h.Write(part)
			h.pos += int64(len(part))
			h.data = h.pos%block != 0
		}
		b = b[len(part):]
	}
	return n, nil
}

// Zeros is Write of n zeros.
func (h *Hash) Zeros(n int64) {
	if h.data { // the rest of the block
		rest := min(n, block-h.pos%block)
		h.hashZeros(rest)
		h.pos += rest
		h.data = h.pos%block != 0
		n -= rest
	}
	h.pos += n
	h.zeros += n
}

// flush is for what comes after zeros, of which the first may be left out.
func (h *Hash) flush(most int64) {
	if most >= Run {
		h.runs = binary.LittleEndian.AppendUint64(h.runs, uint64(h.pos-h.zeros))
		h.runs = binary.LittleEndian.AppendUint64(h.runs, uint64(most))
		h.left += most
		h.zeros -= most
	}
	h.hashZeros(h.zeros)
	h.zeros = 0
}

func (h *Hash) hashZeros(n int64) {
	for n > 0 {
		part := min(n, int64(len(zeros)))
		h.h.Write(zeros[:part])
		n -= part
	}
}

// LeavesOut reports whether something is left out of what was hashed so far; once it is
// so, it stays so.
func (h *Hash) LeavesOut() bool { return h.left > 0 || h.zeros/block*block >= Run }

// Sum ends the file and returns the digest.
func (h *Hash) Sum() [sha256.Size]byte {
	h.flush(h.zeros)
	sum := [sha256.Size]byte(h.h.Sum(nil))
	if h.left == 0 {
		return sum
	}
	outer := sha256.New()
	io.WriteString(outer, "builder: a file without its runs of zeros\n")
	outer.Write(binary.LittleEndian.AppendUint64(nil, uint64(h.pos)))
	outer.Write(h.runs)
	outer.Write(sum[:])
	return [sha256.Size]byte(outer.Sum(nil))
}

// Digest is Sum as a digest.
func (h *Hash) Digest() digest.Digest {
	sum := h.Sum()
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum[:]))
}

// FromReader is the digest of what a reader has.
func FromReader(r io.Reader) (digest.Digest, error) {
	h := New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return h.Digest(), nil
}

// zeros is what a run is compared with and hashed as; nobody writes to it.
var zeros [64 << 10]byte

// IsZero reports whether there are only zeros.
func IsZero(b []byte) bool {
	for len(b) > 0 {
		n := min(len(b), len(zeros))
		if !bytes.Equal(b[:n], zeros[:n]) {
			return false
		}
		b = b[n:]
	}
	return true
}

// ReadFile adds the first size bytes of a file, without reading its holes, and returns how many
// there were: fewer if the file is shorter. It moves the file's position.
func (h *Hash) ReadFile(f *os.File, size int64) (int64, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size = min(size, fi.Size())
	begin := h.pos
	err = Data(f, 0, size, func(off, n int64) error {
		h.Zeros(begin + off - h.pos)
		got, err := io.Copy(h, io.NewSectionReader(f, off, n))
		if err == nil && got < n {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if errors.Is(err, io.ErrUnexpectedEOF) { // it became shorter
		return h.pos - begin, nil
	}
	if err == nil {
		h.Zeros(begin + size - h.pos)
	}
	return h.pos - begin, err
}

// Matches reports whether a file has a content digest. An older one, which left nothing
// out, counts too.
func Matches(f *os.File, want digest.Digest) (bool, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	h := New()
	if _, err := h.ReadFile(f, size); err != nil {
		return false, err
	}
	if got := h.Digest(); got == want || !h.LeavesOut() {
		return got == want, nil
	}
	got, err := digest.SHA256.FromReader(io.NewSectionReader(f, 0, size))
	return got == want, err
}
