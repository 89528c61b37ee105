package shared

import (
	"encoding/json"

	"layered.build/builder/cache/shared/stream"
)

// amounts count what an index has that readers bound. Bytes are those of the text.
type amounts struct{ records, mounts, layers, stacks, named, signatures, bytes int }

// most is what an index may have. A little is left for what is around the entries.
func most() amounts {
	return amounts{maxRecords, maxMounts, maxLayers, maxStacks, maxNamed, maxRecords, maxIndex - 64<<10}
}

func (a amounts) plus(b amounts) amounts {
	return amounts{
		a.records + b.records, a.mounts + b.mounts, a.layers + b.layers, a.stacks + b.stacks,
		a.named + b.named, a.signatures + b.signatures, a.bytes + b.bytes,
	}
}

func (a amounts) within(b amounts) bool {
	return a.records <= b.records && a.mounts <= b.mounts && a.layers <= b.layers && a.stacks <= b.stacks &&
		a.named <= b.named && a.signatures <= b.signatures && a.bytes <= b.bytes
}

const (
	// stackBytes is how many bytes a stack takes at most, and its comma.
	stackBytes = len(`{"Below":1999999,"Layer":499999},`)
	// numbers is how much longer an entry may become as it is numbered anew.
	numbers = 64
	// outputBytes is how many bytes a number of a stack takes at most.
	outputBytes = len(`1999999,`)
)

// entry adds an entry of a list; it is false for one that readers refuse.
func (a *amounts) entry(v any, more int) bool {
	b, err := json.Marshal(v)
	n := len(b) + more + numbers
	a.bytes += n
	return err == nil && n <= stream.MaxEntry
}

// costs counts what a record adds, stacks and layers perhaps more than once; it is false for
// one that readers refuse.
func (w *writer) costs(r record, outputs [][]layer) (a amounts, ok bool) {
	r.Outputs = nil
	ok = a.entry(&r, len(outputs)*outputBytes) && len(outputs) <= maxOutputs
	a.records = 1
	for _, ls := range outputs {
		a.named += len(ls)
		ok = ok && len(ls) <= maxDepth
		at := -1
		for i := range ls {
			n, known := w.layers[keyOf(&ls[i])]
			if !known {
				a.layers++
				ok = a.entry(&ls[i], 0) && ok
			}
			if known && at >= -1 {
				if n, known = w.stacks[stack{Below: at, Layer: n}]; known {
					at = n
					continue
				}
			}
			at = -2 // all above is new, too
			a.stacks++
			a.bytes += stackBytes
		}
	}
	return a, w.costsMark(&a, r.mark) && ok
}

// costsMount is costs of a mount.
func (w *writer) costsMount(m *Mount) (a amounts, ok bool) {
	a.mounts = 1
	ok = a.entry(m, 0)
	return a, w.costsMark(&a, m.mark) && ok
}

func (w *writer) costsMark(a *amounts, m mark) bool {
	if m.sig == nil {
		return true
	}
	if _, known := w.sigs[m.sig]; known {
		return true
	}
	a.signatures++
	return a.entry(m.sig, 0)
}

// fits reports whether readers take an index as it is.
func (x *index) fits(limit amounts) bool {
	a := amounts{
		records: len(x.Records), mounts: len(x.Mounts), layers: len(x.Layers), stacks: len(x.Stacks),
		signatures: len(x.Signatures), bytes: len(x.Stacks) * stackBytes,
	}
	depth := make([]int, len(x.Stacks))
	for i, s := range x.Stacks {
		depth[i] = 1
		if s.Below >= 0 {
			depth[i] += depth[s.Below]
		}
		if depth[i] > maxDepth {
			return false
		}
	}
	ok := true
	for i := range x.Layers {
		ok = ok && a.entry(&x.Layers[i], 0)
	}
	for _, r := range x.Records {
		ok = ok && a.entry(r, 0) && len(r.Outputs) <= maxOutputs
		for _, o := range r.Outputs {
			if o >= 0 {
				a.named += depth[o]
			}
		}
	}
	for _, m := range x.Mounts {
		ok = ok && a.entry(m, 0)
	}
	for _, s := range x.Signatures {
		ok = ok && a.entry(s, 0)
	}
	return ok && a.within(limit)
}
