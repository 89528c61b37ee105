package build_test

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures"
)

// hostile is a place whose index somebody else has changed, and which forgets what it is
// given.
type hostile struct {
	shared.Backend
	change func(x map[string]any)
}

// Replace implements shared.Indexes.
func (*hostile) Replace(context.Context, string, []byte, []shared.Blob, string) error { return nil }

// Store implements shared.Blobs.
func (*hostile) Store(context.Context, shared.Blob, shared.Content) error { return nil }

// Index implements shared.Indexes.
func (h *hostile) Index(ctx context.Context, scope string) ([]byte, string, error) {
	data, version, err := h.Backend.Index(ctx, scope)
	if err != nil {
		return nil, "", err
	}
	r, err := zstd.NewReader(nil)
	if err != nil {
		return nil, "", err
	}
	defer r.Close()
	text, err := r.DecodeAll(data, nil)
	if err != nil {
		return nil, "", err
	}
	var x map[string]any
	if err := json.Unmarshal(text, &x); err != nil {
		return nil, "", err
	}
	h.change(x)
	if text, err = json.Marshal(x); err != nil {
		return nil, "", err
	}
	w, err := zstd.NewWriter(nil)
	if err != nil {
		return nil, "", err
	}
	return w.EncodeAll(text, nil), version, w.Close()
}

// each changes all members of a list.
func each(list string, change func(n int, m map[string]any)) func(map[string]any) {
	return func(x map[string]any) {
		for n, m := range x[list].([]any) {
			change(n, m.(map[string]any))
		}
	}
}

func set(list, name string, value any) func(map[string]any) {
	return each(list, func(_ int, m map[string]any) { m[name] = value })
}

// eachBlob changes the blobs of all layers that have one.
func eachBlob(change func(m map[string]any)) func(map[string]any) {
	return each("Layers", func(_ int, m map[string]any) {
		if b, ok := m["Blob"].(map[string]any); ok {
			change(b)
		}
	})
}

// rotate gives each member the value of the next one that has it.
func rotate(list, name string) func(map[string]any) {
	return func(x map[string]any) {
		var have []map[string]any
		for _, m := range x[list].([]any) {
			if m := m.(map[string]any); m[name] != nil {
				have = append(have, m)
			}
		}
		first := have[0][name]
		for i, m := range have[:len(have)-1] {
			m[name] = have[i+1][name]
		}
		have[len(have)-1][name] = first
	}
}

// deepen puts very many layers on top of all results.
func deepen(x map[string]any) {
	stacks := x["Stacks"].([]any)
	fetched := slices.IndexFunc(x["Layers"].([]any), func(l any) bool { return l.(map[string]any)["Blob"] != nil })
	for _, r := range x["Records"].([]any) {
		r := r.(map[string]any)
		below := any(r["Outputs"].([]any)[0])
		for range 9000 {
			stacks = append(stacks, map[string]any{"Below": below, "Layer": fetched})
			below = len(stacks) - 1
		}
		r["Outputs"] = []any{below}
	}
	x["Stacks"] = stacks
}

// TestHostileCache builds with an index that somebody has changed who cannot make layers
// with other digests. That is no more than a miss.
func TestHostileCache(t *testing.T) {
	newMachine := machines(t)
	place := &sharedtest.Memory{}
	first := newMachine().shares(place, shared.ModeMax)
	fixtures.WriteFiles(t, first.dir, "other", "other")
	first.run(sharedDockerfile)
	hash := func(c string) string { return "sha256:" + strings.Repeat(c, 64) }
	for name, change := range map[string]func(map[string]any){
		"no outputs":        set("Records", "Outputs", []int{}),
		"null outputs":      set("Records", "Outputs", nil),
		"scratch":           set("Records", "Outputs", []int{-1}),
		"many outputs":      each("Records", func(_ int, m map[string]any) { m["Outputs"] = slices.Repeat(m["Outputs"].([]any), 100) }),
		"no such stack":     set("Records", "Outputs", []int{1 << 40}),
		"without the base":  set("Stacks", "Below", -1),
		"stack upon itself": each("Stacks", func(n int, m map[string]any) { m["Below"] = n }),
		"no such layer":     set("Stacks", "Layer", 1<<40),
		"other layers":      rotate("Layers", "DiffID"),
		"other contents":    rotate("Layers", "Content"),
		"other blobs":       rotate("Layers", "Blob"),
		"unknown layers":    set("Layers", "DiffID", hash("0")),
		"unknown contents":  set("Layers", "Content", hash("0")),
		"unknown blobs":     eachBlob(func(m map[string]any) { m["digest"] = hash("0") }),
		"paths as blobs":    eachBlob(func(m map[string]any) { m["digest"] = "sha256:../../../../etc/passwd" }),
		"paths as layers":   set("Layers", "DiffID", "sha256:../../../../etc/passwd"),
		"paths as contents": set("Layers", "Content", "../../../../etc/passwd"),
		"paths as keys":     set("Records", "Key", "sha256:../../../../etc/passwd"),
		"other media types": eachBlob(func(m map[string]any) { m["mediaType"] = "text/html" }),
		"no media types":    eachBlob(func(m map[string]any) { m["mediaType"] = "" }),
		"empty":             eachBlob(func(m map[string]any) { m["size"] = 0 }),
		"short":             eachBlob(func(m map[string]any) { m["size"] = 1 }),
		"negative":          eachBlob(func(m map[string]any) { m["size"] = -1 }),
		"long":              eachBlob(func(m map[string]any) { m["size"] = 1 << 20 }),
		"huge":              eachBlob(func(m map[string]any) { m["size"] = int64(math.MaxInt64) }),
		"huge layers":       set("Layers", "Size", int64(math.MaxInt64)),
		"empty layers":      set("Layers", "Empty", true),
		"elsewhere":         eachBlob(func(m map[string]any) { m["urls"] = []string{"http://127.0.0.1:1/layer"}; m["data"] = []byte("data") }),
		"times": each("Records", func(_ int, m map[string]any) {
			m["Created"], m["Used"], m["Duration"] = int64(math.MinInt64), int64(math.MaxInt64), -1
		}),
		"times of layers": set("Layers", "Created", int64(math.MaxInt64)),
		"very deep":       deepen,
		"no records":      func(x map[string]any) { x["Records"] = []any{nil, nil} },
	} {
		t.Run(name, func(t *testing.T) {
			for _, other := range []string{"other", "edited"} {
				m := newMachine().shares(&hostile{place, change}, shared.ModeMax)
				m.t = t
				fixtures.WriteFiles(t, m.dir, "other", other)
				m.run(sharedDockerfile)
				m.is("all", "one\nthe file of atwo\n")
				m.is("other", other)
			}
		})
	}
}
