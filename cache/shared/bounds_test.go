package shared

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/stream"
)

// keyed are the names of the records that an index has.
func keyed(x *index, names ...string) string {
	there := x.byKey()
	var out []string
	for _, n := range names {
		if there[cache.Key(digest.FromString(n))] != nil {
			out = append(out, n)
		}
	}
	return strings.Join(out, " ")
}

func addRecord(w *writer, name string, used int64, finding string, layers ...string) {
	var ls []layer
	for _, l := range layers {
		ls = append(ls, testLayer(l, true))
	}
	w.add(record{Key: cache.Key(digest.FromString(name)), Used: used, Findings: []cache.Finding{{Text: finding}}}, [][]layer{ls})
}

// TestWithinBounds leaves out what was not used for longest where an index would have more of
// something than readers take.
func TestWithinBounds(t *testing.T) {
	for name, lower := range map[string]func(*amounts){
		"records":    func(a *amounts) { a.records = 2 },
		"layers":     func(a *amounts) { a.layers = 4 },
		"stacks":     func(a *amounts) { a.stacks = 4 },
		"named":      func(a *amounts) { a.named = 4 },
		"mounts":     func(a *amounts) { a.mounts = 1 },
		"signatures": func(a *amounts) { a.signatures = 2 },
		"bytes":      func(a *amounts) { a.bytes = 6000 },
	} {
		w := newWriter()
		for i, r := range []string{"old", "middle", "new"} {
			addRecord(w, r, int64(i), strings.Repeat("x", 1000), r+"1", r+"2")
			w.out.Records[i].mark = w.mark(mark{&signed{}, &signature{}})
		}
		w.addMount(mountOf("m", "", 5, 10))
		w.addMount(mountOf("n", "", 4, 10))
		if x := w.within(0); len(x.Records) != 3 || len(x.Mounts) != 2 {
			t.Fatalf("%d records, %d mounts", len(x.Records), len(x.Mounts))
		}
		lower(&w.limit)
		x := w.within(0)
		want := "middle new"
		if name == "mounts" {
			want = "old middle new"
			if len(x.Mounts) != 1 || x.Mounts[0].ID != "m" {
				t.Errorf("%d mounts", len(x.Mounts))
			}
		}
		if got := keyed(x, "old", "middle", "new"); got != want || !x.fits(w.limit) {
			t.Errorf("%s: got %q, want %q; it fits: %t", name, got, want, x.fits(w.limit))
		}
	}
}

// TestWithinReadable leaves out an entry that is too large, or too deep, for readers: they
// would refuse all others with it.
func TestWithinReadable(t *testing.T) {
	w := newWriter()
	addRecord(w, "small", 1, "x", "a")
	addRecord(w, "large", 2, strings.Repeat("x", stream.MaxEntry), "b")
	ls := make([]layer, maxDepth+1)
	for i := range ls {
		ls[i] = testLayer("a", true)
	}
	w.add(record{Key: cache.Key(digest.FromString("deep")), Used: 3}, [][]layer{ls})
	w.add(record{Key: cache.Key(digest.FromString("wide")), Used: 4}, make([][]layer, maxOutputs+1))
	w.addMount(mountOf(strings.Repeat("m", stream.MaxEntry), "", 3, 10))
	w.addMount(mountOf("m", "", 3, 10))
	data, err := w.within(0).encode()
	if err != nil {
		t.Fatal(err)
	}
	x, err := decodeIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := keyed(x, "small", "large", "deep", "wide"); got != "small" || len(x.Mounts) != 1 {
		t.Errorf("got %q and %d mounts", got, len(x.Mounts))
	}
}
