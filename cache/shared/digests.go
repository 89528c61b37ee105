package shared

import (
	"bytes"
	"io"
	"regexp"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var digestText = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`sha256:[0-9a-f]{64}`) })

// namedText is how the descriptions of blobs in an index name them.
var namedText = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`"[Dd]igest":"(sha256:[0-9a-f]{64})"`)
})

// blobsNamedIn lists what may be the blobs of an index that is damaged: what comes before the
// damage. Their sizes are not known.
func blobsNamedIn(b []byte) []Blob {
	var out []Blob
	seen := map[digest.Digest]bool{}
	for _, d := range find(b, namedText(), len(`"digest":""`)) {
		if !seen[d] {
			seen[d] = true
			out = append(out, Blob{Descriptor: ocispec.Descriptor{Digest: d}})
		}
	}
	return out
}

// DigestsIn lists what may be names of blobs in an index, or in what another program keeps in
// its place. Of one that is damaged what comes before is listed.
func DigestsIn(b []byte) []digest.Digest { return find(b, digestText(), 0) }

// find lists the digests in all that matches an expression, whose last group is the digest,
// and which is that much longer.
func find(b []byte, what *regexp.Regexp, longer int) []digest.Digest {
	var r io.Reader = bytes.NewReader(b)
	if z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxIndex), zstd.WithDecoderMaxWindow(maxWindow)); err == nil && bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd")) {
		defer z.Close()
		r = io.LimitReader(z, maxIndex)
	}
	longest := len("sha256:") + 64 + longer
	var out []digest.Digest
	buf, kept := make([]byte, 1<<20), 0
	for {
		n, err := io.ReadFull(r, buf[kept:])
		text := buf[:kept+n]
		end := 0
		for _, at := range what.FindAllSubmatchIndex(text, -1) {
			group := at[len(at)-2:]
			out = append(out, digest.Digest(text[group[0]:group[1]]))
			end = at[1]
		}
		if err != nil {
			return out
		}
		// One may lie across the end; none is listed twice.
		kept = copy(buf, text[max(end, len(text)-longest+1):])
	}
}
