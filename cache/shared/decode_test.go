package shared

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/shared/hide"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
)

// bomb is an index that repeats a text as often as fits between two others.
func bomb(t *testing.T, begin, repeat, end string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	chunk := []byte(strings.Repeat(repeat, 1<<16/len(repeat)))
	_, err = io.WriteString(w, begin)
	for n := 0; err == nil && n < maxIndex-1<<17; n += len(chunk) {
		_, err = w.Write(chunk)
	}
	if err == nil {
		_, err = io.WriteString(w, end)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestIndexBombs reads indexes of a few kilobytes that become as large as one may be. All
// are refused, and none takes more memory than a large index does.
func TestIndexBombs(t *testing.T) {
	for name, data := range map[string][]byte{
		"records":    bomb(t, `{"Version":1,"Records":[{}`, `,{}`, `]}`),
		"nothing":    bomb(t, `{"Version":1,"Records":[null`, `,null`, `]}`),
		"layers":     bomb(t, `{"Version":1,"Layers":[{}`, `,{}`, `]}`),
		"stacks":     bomb(t, `{"Version":1,"Stacks":[{}`, `,{}`, `]}`),
		"mounts":     bomb(t, `{"Version":1,"Mounts":[{}`, `,{}`, `]}`),
		"signatures": bomb(t, `{"Version":1,"Signatures":[{}`, `,{}`, `]}`),
		"outputs":    bomb(t, `{"Version":1,"Records":[{"Outputs":[0`, `,0`, `]}]}`),
		"parts":      bomb(t, `{"Version":1,"Records":[{"Parts":[{}`, `,{}`, `]}]}`),
		"findings":   bomb(t, `{"Version":1,"Records":[{"Findings":[{}`, `,{}`, `]}]}`),
		"packs":      bomb(t, `{"Version":1,"Mounts":[{"Packs":[{}`, `,{}`, `]}]}`),
		"urls":       bomb(t, `{"Version":1,"Layers":[{"Blob":{"urls":[""`, `,""`, `]}}]}`),
		"text":       bomb(t, `{"Version":1,"Records":[{"Salt":"`, `a`, `"}]}`),
		"key":        bomb(t, `{"Version":1,"`, `a`, `":1}`),
		"deep":       bomb(t, `{"Version":1,"Later":`, `[`, ``),
		"unknown":    bomb(t, `{"Version":1,"Later":[0`, `,0`, `],"Records":[{}]}`),
		"spaces":     bomb(t, ``, ` `, `{}`),
		"versions":   bomb(t, `{"Version":1`, `,"Version":1`, `,"Records":[null]}`),
		"no end":     bomb(t, `{"Version":1,"Records":[`, ` `, ``),
	} {
		t.Run(name, func(t *testing.T) {
			most := heapWhile(func() {
				if _, err := decodeIndex(data); err == nil {
					t.Error("accepted")
				}
			})
			if len(data) > 1<<20 || most > 192<<20 {
				t.Errorf("%d bytes took %d MiB", len(data), most>>20)
			}
		})
	}
}

// heapWhile is about how much the heap has at most while f runs.
func heapWhile(f func()) (most uint64) {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapAlloc)
			}
		}
	}()
	f()
	close(done)
	<-stopped
	return most - min(before, most)
}

// TestIndexTooLarge refuses what has more of something than this program ever writes.
func TestIndexTooLarge(t *testing.T) {
	hash := func(i int) string { return string(digest.FromString(fmt.Sprint(i))) }
	deep := &index{Layers: []layer{{DiffID: "sha256:" + "0", Content: "0"}}}
	deep.Layers[0].DiffID, deep.Layers[0].Content = testLayer("a", false).DiffID, testLayer("a", false).Content
	for i := range maxDepth {
		deep.Stacks = append(deep.Stacks, stack{Below: i - 1})
	}
	record := func(i int, outputs ...int) *record { return &record{Key: cache.Key(hash(i)), Outputs: outputs} }
	many, wide := &index{}, *deep
	for i := range maxRecords + 1 {
		many.Records = append(many.Records, record(i))
	}
	for i := range maxNamed/maxDepth + 1 {
		wide.Records = append(wide.Records, record(i, maxDepth-1))
	}
	deep.Records = wide.Records[:10]
	fits := &index{Records: many.Records[:maxRecords]}
	for name, c := range map[string]struct {
		x  *index
		ok bool
	}{"records": {many, false}, "most records": {fits, true}, "deep": {deep, true}, "wide": {&wide, false}} {
		b, err := c.x.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeIndex(b); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkDecodeIndex(b *testing.B) {
	w := newWriter()
	for i := range 5000 {
		var ls []layer
		for j := range 10 {
			l := testLayer(fmt.Sprint(i/10*10, j), true)
			ls = append(ls, l)
		}
		r := record{Key: cache.Key(digest.FromString(fmt.Sprint(i))), Definition: cache.Key(digest.FromString(fmt.Sprint("d", i))), Created: 1_700_000_000, Used: 19_000}
		var ps []hide.Part
		for j := range 15 {
			ps = append(ps, hide.Part{Name: fmt.Sprint("component ", j), Hash: "0123456789abcdef"})
		}
		var err error
		if r.Parts, err = hide.PartsOf(ps); err != nil {
			b.Fatal(err)
		}
		w.add(r, [][]layer{ls})
	}
	data, err := w.out.encode()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := decodeIndex(data); err != nil {
			b.Fatal(err)
		}
	}
}
