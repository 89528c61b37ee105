package compression

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestPlainSum: what a gzip stream holds is read as the library reads it, whole or not.
func TestPlainSum(t *testing.T) {
	member := func(s string) []byte {
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		if _, err := zw.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	one, two := member(strings.Repeat("one ", 50_000)), member(strings.Repeat("two ", 70_000))
	damaged := slices.Clone(one)
	damaged[len(damaged)-6] ^= 1
	for name, data := range map[string][]byte{
		"one member": one, "two members": slices.Concat(one, two), "empty member": slices.Concat(member(""), two),
		"truncated": one[:len(one)/2], "without a trailer": one[:len(one)-8], "half a header": slices.Concat(one, two[:5]),
		"garbage behind it": append(slices.Clone(one), "garbage that is no gzip"...), "damaged": damaged,
	} {
		t.Run(name, func(t *testing.T) {
			var want []byte
			zr, wantErr := gzip.NewReader(bytes.NewReader(data))
			if wantErr == nil {
				want, wantErr = io.ReadAll(zr)
			}
			pr, pw := io.Pipe()
			sum := &plainSum{done: make(chan struct{})}
			go sum.run(pr)
			_, _ = pw.Write(data) // fails where the stream is refused before its end
			pw.Close()
			<-sum.done
			if (sum.err == nil) != (wantErr == nil) || errors.Is(wantErr, io.ErrUnexpectedEOF) != errors.Is(sum.err, io.ErrUnexpectedEOF) {
				t.Fatalf("error %v, the library's is %v", sum.err, wantErr)
			}
			if wantErr == nil && (sum.digest != digest.FromBytes(want) || sum.size != int64(len(want))) {
				t.Errorf("%d bytes %s, want %d", sum.size, sum.digest, len(want))
			}
		})
	}
}
