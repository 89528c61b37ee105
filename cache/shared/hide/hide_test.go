package hide

import (
	"encoding/json"
	"strings"
	"testing"

	"layered.build/builder/cache"
)

// TestCompare finds what changed between two machines with one salt, and tells no value and
// no name of a step or variable.
func TestCompare(t *testing.T) {
	rec := &cache.Record{Definition: "d", Names: []string{"name", "place"}, Parts: []cache.Part{
		{Name: "op", Value: "exec"}, {Name: "env", Value: `["TOKEN=secret-value","SAME=same-value","GONE=gone-value"]`},
		{Name: "input 1 src", Value: "was-digest"}, {Name: "input 1 //", Value: "listing"},
	}}
	first, second, other := New([]byte("salt")), New([]byte("salt")), New([]byte("another"))
	h, err := first.Record("d", rec)
	text, merr := json.Marshal(h)
	if err != nil || merr != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"-value", "TOKEN", "SAME", "was-digest", `"name"`, "listing"} {
		if strings.Contains(string(text), value) {
			t.Errorf("%q is told: %s", value, text)
		}
	}
	if !second.Of("name")(h) || !second.Of("place")(h) || second.Of("else")(h) || other.Of("name")(h) {
		t.Error("the names do not count")
	}
	if r, err := first.Record("result", rec); err != nil || len(r.Names) > 0 || string(r.Parts) != string(h.Parts) {
		t.Errorf("under another key: %+v", r)
	}
	before, after := second.Compare(h, []cache.Part{
		{Name: "op", Value: "exec"}, {Name: "env", Value: `["TOKEN=another","SAME=same-value"]`}, {Name: "input 1 src", Value: "is"},
	})
	was := map[string]string{}
	for _, p := range before {
		was[p.Name] = p.Value
	}
	var changed []string
	for _, p := range after {
		if was[p.Name] != p.Value {
			changed = append(changed, p.Name)
		}
		delete(was, p.Name)
	}
	if got := strings.Join(changed, ", "); got != "env, env TOKEN, input 1 src" || len(was) != 1 {
		t.Errorf("changed %s, gone %v", got, was)
	}
}
