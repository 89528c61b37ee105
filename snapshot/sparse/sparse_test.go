package sparse

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// part is some data, or zeros.
type part struct {
	data  string
	zeros int64
}

// sum hashes parts, zeros as holes or in pieces of a size.
func sum(parts []part, piece int64) digest.Digest {
	h := New()
	for _, p := range parts {
		h.Write([]byte(p.data))
		if piece == 0 {
			h.Zeros(p.zeros)
			continue
		}
		for n := p.zeros; n > 0; n -= piece {
			h.Write(make([]byte, min(n, piece)))
		}
	}
	return h.Digest()
}

// A digest depends on the bytes alone: not on whether zeros are holes, nor on pieces.
func TestHash(t *testing.T) {
	seen := map[digest.Digest]int{}
	for i, parts := range [][]part{
		{{zeros: Run}},
		{{zeros: Run + 1}},
		{{zeros: Run + block}},
		{{data: "x", zeros: Run + block}},
		{{data: "x", zeros: Run + block}, {data: "y"}},
		{{zeros: Run + 5}, {data: "y"}},
		{{zeros: 5}, {data: "y", zeros: Run + block}},
		{{data: "x", zeros: Run}, {data: "y", zeros: 2 * Run}, {data: "z"}},
		{{data: "x", zeros: 2*Run + block}, {data: "y", zeros: Run}, {data: "z"}},
	} {
		want := sum(parts, 0)
		for _, piece := range []int64{block, 1<<20 + 7, 300 << 10} {
			if got := sum(parts, piece); got != want {
				t.Errorf("%d: zeros in pieces of %d: %s, holes %s", i, piece, got, want)
			}
		}
		if other, ok := seen[want]; ok {
			t.Errorf("%d and %d have the same digest", i, other)
		}
		seen[want] = i
	}
}

// What has no long run has its sha256.
func TestHashPlain(t *testing.T) {
	for _, n := range []int64{0, 1, block, Run - 1} {
		plain := sha256.New()
		plain.Write([]byte("x"))
		plain.Write(make([]byte, n))
		if got, want := sum([]part{{"x", n}}, 0), digest.NewDigest(digest.SHA256, plain); got != want {
			t.Errorf("%d zeros: %s, want %s", n, got, want)
		}
	}
}

// A copy has the bytes, and the holes; Matches takes digests of both kinds.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	src, err := os.Create(filepath.Join(dir, "src"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const size = Run + 3*block
	if err := src.Truncate(size + 100); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{3, size - 7, size + 50} {
		if _, err := src.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	dst, err := os.Create(filepath.Join(dir, "dst"))
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := Copy(dst, src, 2, size); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(src.Name())
	if err != nil {
		t.Fatal(err)
	}
	want = want[2 : 2+size]
	got, err := os.ReadFile(dst.Name())
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy has other bytes, %v", err)
	}
	h := New()
	h.Write(want)
	for _, d := range []digest.Digest{h.Digest(), digest.FromBytes(want)} {
		if ok, err := Matches(dst, d); err != nil || !ok {
			t.Errorf("%s: %v, %v", d, ok, err)
		}
	}
	if ok, err := Matches(dst, digest.FromString("other")); err != nil || ok {
		t.Errorf("another digest: %v, %v", ok, err)
	}
	if err := Copy(dst, src, 200, size); err == nil {
		t.Error("a file that is too short was copied")
	}
}

// A section is read, and copied, as the file that it is a part of.
func TestSection(t *testing.T) {
	src, err := os.Create(filepath.Join(t.TempDir(), "src"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const off, size = 3, 8 << 20
	if _, err := src.WriteAt([]byte("data"), off+size/2); err != nil || src.Truncate(off+size) != nil {
		t.Fatal("the file cannot be made: ", err)
	}
	for _, r := range []io.Reader{NewSection(src, off, size, false), io.NewSectionReader(src, off, size)} {
		dst, err := os.Create(filepath.Join(t.TempDir(), "dst"))
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		if err := CopyFrom(dst, r, size); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(dst.Name())
		want := make([]byte, size)
		copy(want[size/2:], "data")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%T: the copy has other bytes, %v", r, err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(dst.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := Place(r); ok && st.Blocks*512 > size/2 {
			t.Errorf("%T: the copy has no holes", r)
		}
	}
	if err := CopyFrom(src, NewSection(src, off, size+1, false), size+1); err == nil {
		t.Error("a section that is too short was copied")
	}
}

// ReadFile says how much there was, and sees the bytes that Write sees.
func TestReadFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = Run + 3*block + 5
	if _, err := f.WriteAt([]byte("data"), block+7); err != nil || f.Truncate(size) != nil {
		t.Fatal("the file cannot be made: ", err)
	}
	h, want := New(), New()
	if n, err := h.ReadFile(f, size+1); err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := io.Copy(want, io.NewSectionReader(f, 0, size)); err != nil {
		t.Fatal(err)
	}
	if got, want := h.Digest(), want.Digest(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
