package shared

import (
	"errors"
	"fmt"
	"testing"

	"layered.build/builder/cache/shared/hide"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/snapshot"
)

// signedScope is a scope with records of ten layers each, which one signature holds for.
func signedScope(tb testing.TB, records int) (*loadedScope, sign.Keys) {
	tb.Helper()
	private, public, err := sign.Generate()
	if err != nil {
		tb.Fatal(err)
	}
	getenv := func(name string) string {
		return map[string]string{"PRIVATE": string(private), "PUBLIC": string(public)}[name]
	}
	signer, err := sign.NewSigner("env:PRIVATE", getenv)
	if err != nil {
		tb.Fatal(err)
	}
	keys, err := sign.ReadKeys([]string{"env:PUBLIC"}, getenv)
	if err != nil {
		tb.Fatal(err)
	}
	var layers []layer
	for i := range 10 {
		d := digest.FromString(fmt.Sprint(i))
		layers = append(layers, layer{DiffID: snapshot.DiffID(d), Content: d, Size: 1 << 20, Created: 1e9, Blob: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: 1 << 19}})
	}
	var entries []*entry
	w := newWriter()
	for i := range records {
		key := cache.Key(digest.FromString(fmt.Sprint("key", i)))
		entries = append(entries, &entry{record{Key: key, Definition: key, Created: 1e9}, [][]layer{layers}})
	}
	if err := newSigns(signer, nil).signAll(tb.Context(), "main", entries, nil, newLoadedScope("main", "", &index{})); err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		w.add(e.record, e.outputs)
	}
	data, err := w.out.encode()
	if err != nil {
		tb.Fatal(err)
	}
	x, err := decodeIndex(data)
	if err != nil {
		tb.Fatal(err)
	}
	return newLoadedScope("main", "1", x), keys
}

// What is hashed of a record is what docs/FORMAT.md says: other versions of the program
// have to find the same.
func TestLeaf(t *testing.T) {
	d := digest.FromString("")
	got, err := leafOf("main", &record{Key: cache.Key(d), Definition: cache.Key(d), Created: 5, Used: 6, Duration: 7, Hidden: hide.Hidden{Parts: hide.Parts(`[{"Name":"a","Hash":"b"}]`)}}, [][]layer{
		{{DiffID: snapshot.DiffID(d), Content: d, Size: 8, Created: 9, Blob: &ocispec.Descriptor{MediaType: "m", Digest: d, Size: 10}}}, nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("builder-cache-entry 1\n"+
		`{"Scope":"main","Key":"%[1]s","Definition":"%[1]s","Created":5,"Duration":7,"Outputs":[[{"DiffID":"%[1]s","Content":"%[1]s","Size":8,"Created":9,"Blob":{"mediaType":"m","digest":"%[1]s","size":10}}],[]]}`, d)
	if want := digest.FromString(text).Encoded(); fmt.Sprintf("%x", got) != want {
		t.Errorf("the hash is %x, want %s", got, want)
	}
}

// BenchmarkVerify looks 20 of 5,000 signed records up that no one has verified yet.
func BenchmarkVerify(b *testing.B) {
	sc, keys := signedScope(b, 5000)
	for b.Loop() {
		x := *sc
		x.index.Signatures[0] = &signature{Key: x.index.Signatures[0].Key, Leaves: x.index.Signatures[0].Leaves, Signature: x.index.Signatures[0].Signature}
		for _, r := range x.index.Records[:20] {
			r.sig = x.index.Signatures[0]
			l, err := leafOf(x.name, r, x.index.outputs(r))
			if err := errors.Join(err, r.verify(l, keys)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkVerifyOne hashes one record.
func BenchmarkVerifyOne(b *testing.B) {
	sc, keys := signedScope(b, 1)
	for b.Loop() {
		r := sc.index.Records[0]
		l, err := leafOf(sc.name, r, sc.index.outputs(r))
		if err := errors.Join(err, r.verify(l, keys)); err != nil {
			b.Fatal(err)
		}
	}
}
