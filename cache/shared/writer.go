package shared

import (
	"cmp"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

// writer makes an index of records of other indexes and of new ones.
type writer struct {
	out    index
	layers map[layerKey]int
	stacks map[stack]int
	keys   map[cache.Key]int // positions in out.Records
	sigs   map[*signature]int
	limit  amounts // of what within returns
	has    amounts // of what addIn added
}

// layerKey tells layers apart: one may have several forms.
type layerKey struct {
	diff    snapshot.DiffID
	content digest.Digest
	blob    digest.Digest
	entries digest.Digest
	created int64
}

func newWriter() *writer {
	return &writer{layers: map[layerKey]int{}, stacks: map[stack]int{}, keys: map[cache.Key]int{}, sigs: map[*signature]int{}, limit: most()}
}

// add adds a record whose outputs are the given layers; it takes the place of one with
// the same key.
func (w *writer) add(r record, outputs [][]layer) {
	r.Outputs = make([]int, len(outputs))
	for i, ls := range outputs {
		r.Outputs[i] = w.stack(ls)
	}
	r.mark = w.mark(r.mark)
	if at, ok := w.keys[r.Key]; ok {
		w.out.Records[at] = &r
		return
	}
	w.keys[r.Key] = len(w.out.Records)
	w.out.Records = append(w.out.Records, &r)
}

func (w *writer) stack(ls []layer) int {
	at := -1
	for _, l := range ls {
		s := stack{Below: at, Layer: w.layer(l)}
		n, ok := w.stacks[s]
		if !ok {
			n = len(w.out.Stacks)
			w.out.Stacks, w.stacks[s] = append(w.out.Stacks, s), n
		}
		at = n
	}
	return at
}

func keyOf(l *layer) layerKey {
	k := layerKey{diff: l.DiffID, content: l.Content, created: l.Created}
	if l.Blob != nil {
		k.blob = l.Blob.Digest
	}
	if l.Entries != nil {
		k.entries = l.Entries.Digest
	}
	return k
}

func (w *writer) layer(l layer) int {
	k := keyOf(&l)
	n, ok := w.layers[k]
	if !ok {
		n = len(w.out.Layers)
		w.out.Layers, w.layers[k] = append(w.out.Layers, l), n
	}
	return n
}

// mark is the mark of an entry in the index that is made.
func (w *writer) mark(m mark) mark {
	if m.sig == nil {
		return mark{}
	}
	n, ok := w.sigs[m.sig]
	if !ok {
		n = len(w.out.Signatures)
		w.out.Signatures, w.sigs[m.sig] = append(w.out.Signatures, m.sig), n
	}
	return mark{&signed{By: n, Leaf: m.Signed.Leaf}, m.sig}
}

// addAll adds the records of another index.
func (w *writer) addAll(x *index) {
	for _, r := range x.Records {
		w.add(*r, x.outputs(r))
	}
	for _, m := range x.Mounts {
		w.addMount(m)
	}
}

// within returns the index with the records and mounts that were used last: as many as readers
// take, and whose blobs together have no more than max bytes, if that is not 0.
func (w *writer) within(max int64) *index {
	w.out.Mounts = w.latestMounts()
	if max == 0 && w.out.fits(w.limit) {
		return &w.out
	}
	order := slices.Clone(w.out.Records)
	slices.SortStableFunc(order, func(a, b *record) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(b.Created, a.Created))
	})
	kept := newWriter()
	kept.limit = w.limit
	space := &room{max: max, have: map[digest.Digest]bool{}}
	mounts := w.out.Mounts
	for _, r := range order {
		for ; len(mounts) > 0 && mounts[0].Used > r.Used; mounts = mounts[1:] {
			kept.addMountIn(mounts[0], space)
		}
		kept.addIn(*r, w.out.outputs(r), space)
	}
	for _, m := range mounts {
		kept.addMountIn(m, space)
	}
	return &kept.out
}

// addIn is add, if there is room.
func (w *writer) addIn(r record, outputs [][]layer, space *room) {
	if w.has.records == w.limit.records {
		return
	}
	if a, ok := w.costs(r, outputs); ok && w.has.plus(a).within(w.limit) && space.take(blobsOf(outputs)) {
		w.has = w.has.plus(a)
		w.add(r, outputs)
	}
}

// addMountIn is addMount of one that is not there, if there is room.
func (w *writer) addMountIn(m *Mount, space *room) {
	if a, ok := w.costsMount(m); ok && w.has.plus(a).within(w.limit) && space.take(m.blobs()) {
		w.has = w.has.plus(a)
		w.out.Mounts = append(w.out.Mounts, w.marked(m))
	}
}
