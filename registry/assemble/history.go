package assemble

import (
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// newHistory returns the history of the whole image: as many non-empty entries
// as there are layers, each with a time.
func newHistory(in Input) ([]ocispec.History, error) {
	if !isPrefix(in.BaseStack, in.Stack) {
		return nil, fmt.Errorf("assemble image: %w: its layers do not begin with the base image's", errdef.ErrInvalid)
	}
	hist := baseHistory(in.Base, in.BaseStack)
	base := len(hist)
	prev := in.BaseStack
	names := make([]string, len(prev)) // of the layers
	for _, st := range in.Steps {
		if !isPrefix(prev, st.Stack) {
			return nil, fmt.Errorf("assemble image: %w: %q has a file system that is not made on top of the one before", errdef.ErrInvalid, st.CreatedBy)
		}
		added := st.Stack[len(prev):]
		if !st.Unlisted {
			hist = append(hist, stepHistory(st, added)...)
		}
		for range added {
			names = append(names, st.Name)
		}
		prev = st.Stack
	}
	if len(prev) != len(in.Stack) || !isPrefix(prev, in.Stack) {
		return nil, fmt.Errorf("assemble image: %w: %d layers, but the instructions account for %d", errdef.ErrInvalid, len(in.Stack), len(prev))
	}
	hist = append(hist, unlisted(hist, in.Stack, names)...)
	fillTimes(hist, in.Stack)
	for i := base; i < len(hist); i++ {
		hist[i].Created = notAfter(hist[i].Created, in.Epoch)
	}
	return hist, nil
}

// exporterComment marks lines that no instruction has.
const exporterComment = "builder.exporter.image.v0"

// unlisted are the lines that hist lacks to have one for each layer. As BuildKit has it
// they come last, and are called like the layers that are there last.
func unlisted(hist []ocispec.History, stack snapshot.Stack, names []string) []ocispec.History {
	n := 0
	for _, h := range hist {
		if !h.EmptyLayer {
			n++
		}
	}
	var out []ocispec.History
	for i := n; i < len(stack); i++ {
		h := ocispec.History{CreatedBy: names[i], Comment: exporterComment}
		if created := stack[i].Created.UTC(); !created.IsZero() {
			h.Created = &created
		}
		out = append(out, h)
	}
	return out
}

func isPrefix(a, b snapshot.Stack) bool {
	if len(a) > len(b) {
		return false
	}
	for i := range a {
		if a[i].DiffID != b[i].DiffID {
			return false
		}
	}
	return true
}

// baseHistory makes a base image's history account for exactly its layers:
// images are found whose history is missing, or tells of more layers than there
// are.
func baseHistory(base *image.Config, stack snapshot.Stack) []ocispec.History {
	if base == nil {
		return nil
	}
	var hist []ocispec.History
	layers := 0
	for _, h := range base.History {
		if layers >= len(stack) {
			h.EmptyLayer = true
		}
		if !h.EmptyLayer {
			layers++
		}
		hist = append(hist, h)
	}
	for ; layers < len(stack); layers++ {
		hist = append(hist, ocispec.History{Comment: "layer that the base image's history leaves out"})
	}
	return hist
}

func stepHistory(st Step, added snapshot.Stack) []ocispec.History {
	h := ocispec.History{CreatedBy: st.CreatedBy, Comment: st.Comment, Author: "", EmptyLayer: len(added) == 0}
	entries := []ocispec.History{h}
	for i := range added {
		created := added[i].Created.UTC()
		if i > 0 {
			entries = append(entries, h)
		}
		if !created.IsZero() {
			entries[i].Created = &created
		}
	}
	return entries
}

// fillTimes gives every entry a time, as BuildKit does: that of its layer; for
// entries without a layer that of the layer before, or of the first new layer.
func fillTimes(hist []ocispec.History, stack snapshot.Stack) {
	layer := 0
	for i := range hist {
		if hist[i].EmptyLayer {
			continue
		}
		if created := stack[layer].Created.UTC(); hist[i].Created == nil && !created.IsZero() {
			hist[i].Created = &created
		}
		layer++
	}
	var created *time.Time
	missing := false
	for _, h := range hist {
		if h.Created == nil {
			missing = true
			continue
		}
		created = h.Created
		if missing {
			break
		}
	}
	missing = false
	for i := range hist {
		if hist[i].Created == nil {
			missing = true
			hist[i].Created = created
		} else if missing {
			created = hist[i].Created
		}
	}
}

// notAfter is the epoch, if there is one, for a time that is later or not known.
func notAfter(t, epoch *time.Time) *time.Time {
	if epoch == nil || t != nil && !t.After(*epoch) {
		return t
	}
	e := epoch.UTC()
	return &e
}

func lastCreated(hist []ocispec.History) *time.Time {
	for i := len(hist) - 1; i >= 0; i-- {
		if hist[i].Created != nil {
			return hist[i].Created
		}
	}
	return nil
}
