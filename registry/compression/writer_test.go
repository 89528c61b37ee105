package compression

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestGzipDoesNotDependOnCores(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 5<<19) // half of it can be compressed
	for i := 0; i < len(data); i += 2 {
		data[i] = byte(rnd.Uint32())
	}
	var want digest.Digest
	for _, procs := range []int{1, 2, 7} {
		for _, piece := range []int{len(data), 100_001} {
			old := runtime.GOMAXPROCS(procs)
			var buf bytes.Buffer
			zw, err := newGzip(&buf)
			if err != nil {
				t.Fatal(err)
			}
			for rest := data; len(rest) > 0; rest = rest[min(piece, len(rest)):] {
				if _, err := zw.Write(rest[:min(piece, len(rest))]); err != nil {
					t.Fatal(err)
				}
			}
			err = errors.Join(zw.Close())
			runtime.GOMAXPROCS(old)
			if err != nil {
				t.Fatal(err)
			}
			got := digest.FromBytes(buf.Bytes())
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("%d cores, pieces of %d: other bytes", procs, piece)
			}
		}
	}
}
