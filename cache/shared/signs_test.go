package shared_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/snapshot"
)

const farAway = 250_000_000_000 // of a year after 9000

// TestSignsOwn exports a step over an entry that claims to be younger: who signs takes nothing
// over from one that nobody he knows has signed.
func TestSignsOwn(t *testing.T) {
	k, other := newPair(t), newPair(t)
	for name, c := range map[string]struct {
		before *sign.Signer
		tamper bool
		stays  bool
	}{
		"unsigned":       {nil, true, false},
		"by another":     {other.signer, false, false},
		"other leaf":     {k.signer, true, false},
		"of the same":    {k.signer, false, true},
		"of who has not": {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			place := &sharedtest.Memory{}
			later := newMachine()
			later.later = 24 * time.Hour
			later.makes(t, to(place, "main", c.before), "step")
			if c.tamper {
				change(t, place, "main", func(x index) {
					r := x.record(t, "step")
					r["Created"], r["Duration"] = farAway, 77
					r["Findings"] = []any{map[string]any{"Rule": "evil", "Text": "evil"}}
				})
			}
			newMachine().makes(t, to(place, "main", k.signer), "step")
			m := newMachine()
			if got := m.finds(t, m.session([]shared.Source{from(place, k.keys, "main")}, nil), "step"); len(got) != 1 {
				t.Fatalf("found %q: %q", got, m.told)
			}
			x, _ := readIndex(t, place, "main")
			r := x.record(t, "step")
			if r["Findings"] != nil || r["Duration"] != nil {
				t.Errorf("was signed: %v", r)
			}
			created := time.Unix(int64(r["Created"].(float64)), 0)
			if stays := created.After(time.Now().Add(time.Hour)); stays != c.stays {
				t.Errorf("made at %v", created)
			}
		})
	}
}

// TestKeepsLayersAsSigned has who does not sign use a step again whose layers have another
// time and size on his machine: what was signed of them stays.
func TestKeepsLayersAsSigned(t *testing.T) {
	k := newPair(t)
	place := &sharedtest.Memory{}
	newMachine().makes(t, to(place, "", k.signer), "one")
	m := newMachine()
	s := m.session(nil, []shared.Target{to(place, "", nil)})
	l := m.layer("one")
	l.Created, l.Size = time.Unix(2e9, 0), 11
	rec := &cache.Record{Definition: key("one"), Step: "one", Created: time.Now().Add(time.Hour), Outputs: []snapshot.Stack{{l}}}
	if err := s.Put(t.Context(), key("one"), rec); err != nil {
		t.Fatal(err)
	}
	if err := m.put(s, "two"); err != nil {
		t.Fatal(err)
	}
	m.export(t, s)
	m = newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys)}, nil), "one", "two"); !slices.Equal(got, []string{"one"}) {
		t.Errorf("found %q: %q", got, m.told)
	}
}

// TestSignsByProgram does not know the key that signs. What one of the keys has signed that
// are asked for stays; a forged signature is replaced, and so is any if none is asked for.
func TestSignsByProgram(t *testing.T) {
	k := newPair(t)
	made := bytes.Repeat([]byte("s"), 64)
	for name, c := range map[string]struct {
		forge bool
		keys  sign.Keys
		calls string
	}{
		"signed":       {false, k.keys, ""},
		"forged":       {true, k.keys, "x"},
		"no key known": {false, nil, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			place := &sharedtest.Memory{}
			newMachine().makes(t, to(place, "", k.signer), "one")
			forged := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("f"), 64))
			if c.forge {
				change(t, place, "", func(x index) { x["Signatures"].([]any)[0].(map[string]any)["Signature"] = forged })
			}
			calls := filepath.Join(t.TempDir(), "calls")
			signer, err := sign.NewSigner("cmd:printf x >>"+calls+"; printf "+string(made), nil)
			if err != nil {
				t.Fatal(err)
			}
			var sources []shared.Source
			if c.keys != nil {
				sources = append(sources, from(place, c.keys))
			}
			m := newMachine()
			rec := &cache.Record{Definition: key("one"), Step: "one", Created: time.Now().Add(-time.Hour), Outputs: []snapshot.Stack{{m.layer("one")}}}
			s := m.session(sources, []shared.Target{to(place, "", signer)})
			if err := s.Put(t.Context(), key("one"), rec); err != nil {
				t.Fatal(err)
			}
			m.export(t, s)
			if got, _ := os.ReadFile(calls); string(got) != c.calls {
				t.Errorf("the program ran %d times, want %d", len(got), len(c.calls))
			}
			x, _ := readIndex(t, place, "")
			by := int(x.record(t, "one")["Signed"].(map[string]any)["By"].(float64))
			got := x["Signatures"].([]any)[by].(map[string]any)["Signature"]
			if signed := got == base64.StdEncoding.EncodeToString(made); signed != (c.calls != "") {
				t.Errorf("the signature is %v", got)
			}
		})
	}
}

// TestReplacesSpoiledList exports a step again whose list of entries the place has lost, where
// the machine makes another list of the same entries.
func TestReplacesSpoiledList(t *testing.T) {
	place := &sharedtest.Memory{}
	newMachine().makes(t, to(place, "", nil), "step")
	list := func(x index) map[string]any {
		return x["Layers"].([]any)[0].(map[string]any)["Entries"].(map[string]any)
	}
	x, _ := readIndex(t, place, "")
	want := list(x)["digest"]
	change(t, place, "", func(x index) { list(x)["digest"] = string(digest.FromString("lost")) })
	m := newMachine()
	s := m.session([]shared.Source{from(place, nil)}, []shared.Target{to(place, "", nil)})
	rec, err := s.Get(t.Context(), key("step"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Entries(t.Context(), rec.Outputs[0][0].Completes(), false); err == nil {
		t.Fatal("there is a list")
	}
	if err := s.Finish(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	x, _ = readIndex(t, place, "")
	if got := list(x)["digest"]; got != want {
		t.Errorf("the list is %v, want %v", got, want)
	}
}
