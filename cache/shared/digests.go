package shared

import (
	"bytes"
	"io"
	"regexp"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

var digestText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`sha256:[0-9a-f]{64}`) })

// DigestsIn lists what may be names of blobs in an index, or in what another program keeps in
// its place. Of one that is damaged what comes before is listed.
func DigestsIn(b []byte) []digest.Digest {
	var r io.Reader = bytes.NewReader(b)
	if z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecoderMaxWindow(maxWindow)); err == nil && bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) {
		defer z.Close()
		r = io.LimitReader(z, maxIndex)
	}
	const longest = len("sha256:") + 64
	var out []digest.Digest
	buf, kept := make([]byte, 1<<20), 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		text := buf[:kept+n]
		end := 0
		for _, at := range digestText().FindAllIndex(text, -1) {
			out = append(out, digest.Digest(text[at[0]:at[1]]))
			end = at[1]
		}
		if err != nil {
			return out
		}
		// One may lie across the end; none is listed twice.
		kept = copy(buf, text[max(end, len(text)-longest+1):])
	}
}
