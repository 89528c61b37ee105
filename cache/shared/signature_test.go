package shared_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/cache/shared/sign"
)

// pair is a key in both of its forms.
type pair struct {
	signer *sign.Signer
	keys   sign.Keys
}

func newPair(t testing.TB) pair {
	t.Helper()
	private, public, err := sign.Generate()
	if err != nil {
		t.Fatal(err)
	}
	getenv := func(name string) string {
		return map[string]string{"PRIVATE": string(private), "PUBLIC": string(public)}[name]
	}
	s, err := sign.NewSigner("env:PRIVATE", getenv)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign.ReadKeys([]string{"env:PUBLIC"}, getenv)
	if err != nil {
		t.Fatal(err)
	}
	return pair{s, keys}
}

func to(p shared.Backend, scope string, s *sign.Signer) shared.Target {
	return shared.Target{Backend: p, To: shared.To{Scope: scope, Mode: shared.ModeMax, Signer: s}}
}

func from(p shared.Backend, keys sign.Keys, scopes ...string) shared.Source {
	return shared.Source{Backend: p, From: shared.From{Scopes: scopes, Verify: keys}}
}

// TestSigned reads entries that somebody has signed, and some that were tampered with: those
// are misses, each kind is told, and the others are used.
func TestSigned(t *testing.T) {
	mine, other := newPair(t), newPair(t)
	steps := []string{"one", "two", "three"}
	for name, c := range map[string]struct {
		signer *sign.Signer
		tamper func(x index)
		found  []string
		told   string
	}{
		"well":         {signer: mine.signer, found: steps},
		"unsigned":     {told: "is not signed"},
		"by another":   {signer: other.signer, told: "is none of verify-key"},
		"stripped":     {mine.signer, func(x index) { delete(x.record(t, "two"), "Signed") }, []string{"one", "three"}, "is not signed"},
		"other layers": {mine.signer, func(x index) { x.record(t, "two")["Outputs"] = x.record(t, "one")["Outputs"] }, []string{"one", "three"}, "other than what was signed"},
		"swapped": {mine.signer, func(x index) {
			one, two := x.record(t, "one"), x.record(t, "two")
			one["Key"], two["Key"] = two["Key"], one["Key"]
		}, []string{"three"}, "other than what was signed"},
		"swapped with signature": {mine.signer, func(x index) {
			one, two := x.record(t, "one"), x.record(t, "two")
			two["Outputs"], two["Signed"] = one["Outputs"], one["Signed"]
		}, []string{"one", "three"}, "other than what was signed"},
		"another blob": {mine.signer, func(x index) {
			l := x["Layers"].([]any)[0].(map[string]any)
			l["Blob"].(map[string]any)["digest"] = string(digest.FromString("evil"))
		}, []string{"any", "two"}, "other than what was signed"},
		"another content": {mine.signer, func(x index) {
			for _, l := range x["Layers"].([]any) {
				l.(map[string]any)["Content"] = string(digest.FromString("evil"))
			}
		}, []string{}, "other than what was signed"},
		"findings": {mine.signer, func(x index) {
			x.record(t, "two")["Findings"] = []any{map[string]any{"Rule": "x", "Text": "y"}}
		}, []string{"one", "three"}, "other than what was signed"},
		"false signature": {mine.signer, func(x index) {
			x["Signatures"].([]any)[0].(map[string]any)["Signature"] = base64.StdEncoding.EncodeToString(make([]byte, 64))
		}, []string{}, "falsely signed"},
		"no signature": {mine.signer, func(x index) {
			x["Signatures"].([]any)[0].(map[string]any)["Signature"] = ""
		}, []string{}, "falsely signed"},
		"other leaves": {mine.signer, func(x index) {
			s := x["Signatures"].([]any)[0].(map[string]any)
			s["Leaves"] = s["Leaves"].(string)[:44] // 33 bytes: one, and a rest
		}, []string{}, "falsely signed"},
		"beyond the leaves": {mine.signer, func(x index) {
			x.record(t, "two")["Signed"] = map[string]any{"By": 0, "Leaf": 1 << 40}
		}, []string{"one", "three"}, "other than what was signed"},
		"beyond the signatures": {mine.signer, func(x index) {
			x.record(t, "two")["Signed"] = map[string]any{"By": 7, "Leaf": 0}
		}, []string{}, "damaged"},
		"null signature": {mine.signer, func(x index) { x["Signatures"] = []any{nil} }, []string{}, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			place := &sharedtest.Memory{}
			newMachine().makes(t, to(place, "main", c.signer), steps...)
			if c.tamper != nil {
				change(t, place, "main", c.tamper)
			}
			m := newMachine()
			got := m.finds(t, m.session([]shared.Source{from(place, mine.keys, "main")}, nil), steps...)
			if len(got) != len(c.found) || name != "another blob" && !slices.Equal(got, c.found) { // whose layer is the first is not said
				t.Errorf("found %q, want %q", got, c.found)
			}
			if c.told == "" {
				if len(m.told) > 0 {
					t.Errorf("told %q", m.told)
				}
			} else if m.wasTold(t, c.told); name != "beyond the signatures" && name != "null signature" && !strings.Contains(m.told[0], "scope main") {
				t.Errorf("the scope is not told: %q", m.told)
			}
			// Who asks for no signature uses what is whole.
			if c.signer == nil {
				m := newMachine()
				if got := m.finds(t, m.session([]shared.Source{from(place, nil, "main")}, nil), steps...); !slices.Equal(got, steps) {
					t.Errorf("found %q", got)
				}
			}
		})
	}
}

// TestReplayed takes a whole index from one scope to another: nothing of it counts there,
// also where it is read as a parent.
func TestReplayed(t *testing.T) {
	k := newPair(t)
	place := &sharedtest.Memory{}
	newMachine().makes(t, to(place, "pull/1", k.signer), "step")
	x, _ := readIndex(t, place, "pull/1")
	put(t, place, "main", x, "")
	m := newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys, "pull/2", "main")}, nil), "step"); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	m.wasTold(t, "scope main: entry "+string(key("step"))+" is other than what was signed")
	// The original counts, as a parent too.
	m = newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys, "pull/2", "pull/1")}, nil), "step"); len(got) != 1 {
		t.Errorf("found %q", got)
	}
}

// TestSignaturesStay has others add to a scope: what is signed stays so, whether or not they
// sign, and every export is one signature.
func TestSignaturesStay(t *testing.T) {
	k, other := newPair(t), newPair(t)
	place := &sharedtest.Memory{}
	newMachine().makes(t, to(place, "", k.signer), "one", "two")
	newMachine().makes(t, to(place, "", nil), "three")                         // does not sign
	newMachine().uses(t, from(place, nil), to(place, "", nil), "one", "three") // nor this one
	later := newMachine()
	later.later = time.Hour
	later.makes(t, to(place, "", nil), "two")                                                    // made again, with the same layers
	newMachine().makes(t, to(place, "", other.signer), "four", "five")                           // another key
	newMachine().uses(t, from(place, k.keys), to(place, "", k.signer), "one")                    // again the first
	newMachine().uses(t, from(place, append(k.keys, other.keys...)), to(place, "", nil), "four") // of the other
	m := newMachine()
	all := []string{"one", "two", "three", "four", "five"}
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys)}, nil), all...); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("of the first key: %q, told %q", got, m.told)
	}
	m.wasTold(t, "is not signed")
	m.wasTold(t, "is none of verify-key")
	m = newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, append(k.keys, other.keys...))}, nil), all...); !slices.Equal(got, []string{"one", "two", "four", "five"}) {
		t.Errorf("of both keys: %q", got)
	}
	if x, _ := readIndex(t, place, ""); len(x["Signatures"].([]any)) != 2 {
		t.Errorf("%d signatures, want 2", len(x["Signatures"].([]any)))
	}
	// Who signs adds signatures to what has none, without anything else that is new.
	newMachine().uses(t, from(place, nil), to(place, "", k.signer), "three")
	m = newMachine()
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys)}, nil), "three"); len(got) != 1 {
		t.Errorf("three is not signed: %q", m.told)
	}
}

// TestSignTogether has several write one scope at once: all is signed.
func TestSignTogether(t *testing.T) {
	k := newPair(t)
	place := &sharedtest.Memory{}
	var wg sync.WaitGroup
	var all []string
	for i := range 8 {
		name := fmt.Sprint("step", i)
		all = append(all, name)
		wg.Go(func() {
			m := newMachine()
			s := m.session(nil, []shared.Target{to(place, "main", k.signer)})
			if err := errors.Join(m.put(s, name), m.put(s, "common"), s.Finish(t.Context(), nil)); err != nil || len(m.told) > 0 {
				t.Errorf("%v, told %q", err, m.told)
			}
		})
	}
	wg.Wait()
	m := newMachine()
	all = append(all, "common")
	if got := m.finds(t, m.session([]shared.Source{from(place, k.keys, "main")}, nil), all...); !slices.Equal(got, all) {
		t.Errorf("found %q, told %q", got, m.told)
	}
}

// TestSignerFails leaves the index as it is if nobody signs: what was exported unsigned
// would be believed to be signed.
func TestSignerFails(t *testing.T) {
	s, err := sign.NewSigner("cmd:echo denied >&2; exit 1", nil)
	if err != nil {
		t.Fatal(err)
	}
	place := &sharedtest.Memory{}
	m := newMachine()
	target := to(place, "", s)
	target.Strict = true
	session := m.session(nil, []shared.Target{target})
	if err := errors.Join(m.put(session, "one"), session.Finish(t.Context(), nil)); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("no error: %v", err)
	}
	if _, _, err := place.Index(t.Context(), ""); err == nil {
		t.Error("an index was written")
	}
}

// TestSignedMounts believes contents of cache mounts as it does records.
func TestSignedMounts(t *testing.T) {
	k, other := newPair(t), newPair(t)
	place := &sharedtest.Memory{}
	how := func(s *sign.Signer) shared.To { return shared.To{Scope: "main", Mounts: all, Signer: s} }
	is := func(when, want string, keys sign.Keys, scope string) {
		t.Helper()
		if got := found(t, "npm", "", shared.Source{Backend: place, From: shared.From{Scopes: []string{scope}, Mounts: all, Verify: keys}}); got != want {
			t.Errorf("%s: found %q, want %q", when, got, want)
		}
	}
	export(t, place, how(nil), &sender{texts: map[string]string{"npm": "one"}})
	is("unsigned", "", k.keys, "main")
	export(t, place, how(k.signer), &sender{texts: map[string]string{"npm": "one"}})
	is("signed", "one", k.keys, "main")
	is("of another", "", other.keys, "main")
	x, _ := readIndex(t, place, "main")
	put(t, place, "pull", x, "")
	is("replayed", "", k.keys, "pull")
	export(t, place, how(nil), &sender{texts: map[string]string{"npm": "one"}, later: 1})
	is("used by who does not sign", "one", k.keys, "main")
	x["Mounts"].([]any)[0].(map[string]any)["ID"] = "pip"
	put(t, place, "changed", x, "")
	if got := found(t, "pip", "", shared.Source{Backend: place, From: shared.From{Scopes: []string{"changed"}, Mounts: all, Verify: k.keys}}); got != "" {
		t.Errorf("renamed: found %q", got)
	}
}
