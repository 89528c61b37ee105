package inflate

import (
	"bytes"
	stdflate "compress/flate"
	stdgzip "compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
)

// samples are data with every kind of match and block.
func samples() map[string][]byte {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	text := []byte(strings.Repeat("the quick brown fox jumps over the lazy dog. ", 9_000))
	var skewed, periods, mixed []byte
	for range 200_000 {
		skewed = append(skewed, byte(min(rng.ExpFloat64()*8, 255)))
	}
	for period := 1; period < 70; period++ {
		periods = append(periods, bytes.Repeat(random[period*100:period*100+period], 1+4000/period)...)
	}
	for len(mixed) < 900_000 {
		part := [][]byte{random, text, skewed, periods}[rng.IntN(4)]
		from := rng.IntN(len(part) - 20_000)
		mixed = append(mixed, part[from:from+rng.IntN(20_000)]...)
	}
	return map[string][]byte{
		"empty": nil, "one": {7}, "zeros": make([]byte, 700_000), "random": random, "text": text,
		"skewed": skewed, "periods": periods, "mixed": mixed,
	}
}

func compressed(t testing.TB, data []byte, level int, std bool) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	if std {
		w, err = stdgzip.NewWriterLevel(&out, level)
	} else {
		w, err = gzip.NewWriterLevel(&out, level)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readAll(r io.Reader) ([]byte, error) {
	z, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func TestReadsWhatOthersWrite(t *testing.T) {
	for name, data := range samples() {
		for level := stdflate.HuffmanOnly; level <= 9; level++ {
			for _, std := range []bool{true, false} {
				gz := compressed(t, data, level, std)
				got, err := readAll(bytes.NewReader(gz))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s, level %d, std %v: %d of %d bytes, error %v", name, level, std, len(got), len(data), err)
				}
			}
		}
	}
}

func TestSmallReads(t *testing.T) {
	data := samples()["mixed"]
	gz := compressed(t, data, 6, true)
	for name, r := range map[string]io.Reader{
		"one byte": iotest.OneByteReader(bytes.NewReader(gz)), "half": iotest.HalfReader(bytes.NewReader(gz)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(gz)),
	} {
		got, err := readAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d of %d bytes, error %v", name, len(got), len(data), err)
		}
	}
	z, err := NewReader(bytes.NewReader(gz))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(iotest.OneByteReader(z))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("into single bytes: %d of %d bytes, error %v", len(got), len(data), err)
	}
}

func TestMembers(t *testing.T) {
	var gz, want []byte
	for i := range 40 {
		part := bytes.Repeat([]byte(fmt.Sprint("member ", i, " ")), i*i*10)
		var out bytes.Buffer
		w := stdgzip.NewWriter(&out)
		if i%3 == 0 {
			w.Name, w.Comment, w.Extra = "name", "comment", []byte("extra")
		}
		w.Write(part)
		w.Close()
		gz, want = append(gz, out.Bytes()...), append(want, part...)
	}
	got, err := readAll(bytes.NewReader(gz))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes, error %v", len(got), len(want), err)
	}
	if _, err := readAll(bytes.NewReader(append(gz, "garbage"...))); err == nil {
		t.Error("garbage behind the last member is no error")
	}
	// A match into the member before.
	raw := deflate(t, []byte("abcdefghabcdefghabcdefgh"))
	bad := append(bytes.Clone(compressed(t, []byte("abcdefgh"), 6, true)), gzipOf(t, raw[8:])...)
	if got, err := readAll(bytes.NewReader(bad)); err == nil {
		t.Errorf("a match into another member is no error: %q", got)
	}
}

// deflate and gzipOf are used to make a stream that begins in the middle of another.
func deflate(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := stdflate.NewWriter(&out, 9)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	return out.Bytes()
}

func gzipOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	return append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}, append(raw, make([]byte, 8)...)...)
}

func TestCutOff(t *testing.T) {
	data := samples()["mixed"][:20_000]
	for _, level := range []int{0, 1, 6, stdflate.HuffmanOnly} {
		gz := compressed(t, data, level, true)
		for n := range len(gz) {
			got, err := readAll(bytes.NewReader(gz[:n]))
			if !errors.Is(err, io.ErrUnexpectedEOF) && !(n == 0 && err != nil) {
				t.Fatalf("level %d, %d of %d bytes: %d bytes of output, error %v", level, n, len(gz), len(got), err)
			}
		}
	}
}

// TestOtherErrors checks that an error of the stream below is passed on.
func TestOtherErrors(t *testing.T) {
	gz := compressed(t, samples()["mixed"], 6, true)
	broken := errors.New("broken")
	for _, n := range []int{0, 5, 15, 1000, len(gz) - 3} {
		_, err := readAll(io.MultiReader(bytes.NewReader(gz[:n]), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: error %v", n, err)
		}
	}
}

// check compares with the standard library, whatever the stream is.
func check(t *testing.T, gz []byte) {
	t.Helper()
	got, err := readAll(bytes.NewReader(gz))
	var want []byte
	z, werr := stdgzip.NewReader(bytes.NewReader(gz))
	if werr == nil {
		want, werr = io.ReadAll(z)
	}
	if (err == nil) != (werr == nil) {
		t.Fatalf("error %v, the standard library says %v", err, werr)
	}
	if err == nil && !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, the standard library reads %d others", len(got), len(want))
	}
}

func TestDamaged(t *testing.T) {
	data := samples()["mixed"][:60_000]
	rng := rand.New(rand.NewPCG(3, 4))
	for _, level := range []int{0, 1, 6, stdflate.HuffmanOnly} {
		gz := compressed(t, data, level, true)
		for range 3000 {
			bad := bytes.Clone(gz)
			at := 10 + rng.IntN(min(len(bad)-10, 200)) // mostly headers and codes
			if rng.IntN(3) == 0 {
				at = 10 + rng.IntN(len(bad)-10)
			}
			bad[at] ^= 1 << rng.IntN(8)
			check(t, bad)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, data := range samples() {
		data = data[:min(len(data), 3000)]
		for _, level := range []int{0, 1, 9, stdflate.HuffmanOnly} {
			f.Add(compressed(f, data, level, true))
		}
	}
	f.Fuzz(func(t *testing.T, gz []byte) {
		if len(gz) > 10 { // header checksums are not looked at
			gz[3] &^= 2
		}
		check(t, gz)
	})
}

func BenchmarkReader(b *testing.B) {
	data := samples()["mixed"]
	gz := compressed(b, data, 6, true)
	if path := os.Getenv("GZIP_FILE"); path != "" {
		var err error
		if gz, err = os.ReadFile(path); err != nil {
			b.Fatal(err)
		}
	}
	for name, open := range map[string]func(io.Reader) (io.Reader, error){
		"inflate":   func(r io.Reader) (io.Reader, error) { return NewReader(r) },
		"klauspost": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"std":       func(r io.Reader) (io.Reader, error) { return stdgzip.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 64<<10)
			for b.Loop() {
				z, err := open(bytes.NewReader(gz))
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{z}, buf)
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(n)
			}
		})
	}
}
