package shared

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
)

func compressed(t *testing.T, text string) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll([]byte(text), nil)
}

func mountOf(id, key string, used, size int64) *Mount {
	d := digest.FromString(id + key)
	return &Mount{
		MountName: MountName{ID: id, Platform: "linux/amd64"}, Key: key, Listing: d, Used: used,
		Manifest: MountBlob{Digest: d, Size: size}, Packs: []MountBlob{{Digest: digest.FromString("pack of " + id + key), Size: size}},
	}
}

// TestIndexOfLater reads what a later program has written, and passes over what it does not
// know; and so do programs that know no mounts.
func TestIndexOfLater(t *testing.T) {
	key := cache.Key(digest.FromString("key"))
	x, err := decodeIndex(compressed(t, `{"Version":1,"Later":[{"a":1}],"Records":[{"Key":"`+string(key)+`","Definition":"","Created":1,"Used":2,"Outputs":[-1],"More":true}]}`))
	if err != nil || len(x.Records) != 1 || x.Records[0].Key != key {
		t.Fatalf("%+v, %v", x, err)
	}
	x.Mounts = []*Mount{mountOf("m", "", 3, 7)}
	b, err := x.encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := r.DecodeAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	var old struct { // the first programs' index
		Version int
		Layers  []layer
		Stacks  []stack
		Records []*record
	}
	if err := json.Unmarshal(text, &old); err != nil || old.Version != 1 || len(old.Records) != 1 {
		t.Errorf("%+v, %v", old, err)
	}
	if x, err = decodeIndex(b); err != nil || len(x.Mounts) != 1 || len(x.blobs()) != 2 {
		t.Errorf("%+v, %v", x, err)
	}
}

func TestIndexRefusesMounts(t *testing.T) {
	for name, change := range map[string]func(*Mount){
		"manifest": func(m *Mount) { m.Manifest.Digest = "sha256:../../etc/passwd" },
		"size":     func(m *Mount) { m.Manifest.Size = -1 },
		"pack":     func(m *Mount) { m.Packs[0].Digest = "" },
		"listing":  func(m *Mount) { m.Listing = "x" },
		"bytes":    func(m *Mount) { m.Size = -5 },
	} {
		m := mountOf("m", "", 1, 1)
		change(m)
		b, err := (&index{Mounts: []*Mount{m}}).encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeIndex(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := decodeIndex(compressed(t, `{"Version":1,"Mounts":[null]}`)); err == nil {
		t.Error("null: accepted")
	}
}

// TestIndexWithin keeps what was used last, mounts as well as records.
func TestIndexWithin(t *testing.T) {
	w := newWriter()
	for i, key := range []string{"a", "b", "c", "d", "e"} {
		w.addMount(mountOf("m", key, int64(i), 10))
	}
	w.addMount(mountOf("m", "e", 9, 10)) // again
	w.addMount(mountOf("other", "", 2, 10))
	blob := MountBlob{Digest: digest.FromString("layer"), Size: 30}.blob("")
	w.add(record{Key: "sha256:k", Used: 3}, [][]layer{{{DiffID: "sha256:d", Blob: &blob.Descriptor}}})
	list := func(max int64) string {
		x := w.within(max)
		var out []string
		for _, m := range x.Mounts {
			out = append(out, m.ID+m.Key)
		}
		for range x.Records {
			out = append(out, "record")
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	for max, want := range map[int64]string{
		0:    "mb mc md me other record",
		1000: "mb mc md me other record",
		30:   "me",
		60:   "me record", // the record was used the same day as md
		70:   "md me record",
		50:   "me record",
		19:   "",
	} {
		if got := list(max); got != want {
			t.Errorf("%d bytes: %q, want %q", max, got, want)
		}
	}
}
