package shared

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Digests are found wherever they lie, each as often as it is there.
func TestDigestsIn(t *testing.T) {
	var text bytes.Buffer
	var want []digest.Digest
	for i := range 40_000 {
		d := digest.FromString(fmt.Sprint(i))
		want = append(want, d)
		fmt.Fprintf(&text, "%*s%s", i%7, "", d)
	}
	if got := DigestsIn(text.Bytes()); !slices.Equal(got, want) {
		t.Errorf("found %d of %d", len(got), len(want))
	}
	x := &index{Layers: []layer{{DiffID: "x"}}, Records: []*record{{Key: "sha256:short"}}}
	for _, d := range want[:1000] {
		x.Layers = append(x.Layers, layer{Content: d})
	}
	data, err := x.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got := DigestsIn(data); !slices.Equal(got, want[:1000]) {
		t.Errorf("found %d of 1000 in an index", len(got))
	}
	if got := DigestsIn(data[:len(data)/2]); len(got) > 1000 {
		t.Errorf("found %d in half of it", len(got))
	}
}
