package mounts

const (
	// A pack of fewer bytes is small; of more than manySmall of them one is made.
	smallPack = 2 << 20
	manySmall = 8
)

// Known are the chunks that a place has already. The zero value has none.
type Known struct {
	packs  []Pack
	chunks map[[32]byte]Chunk // Pack is an index of packs
	at     map[Pack]int
}

// Add adds the chunks of a manifest, but for those in packs that usable refuses. Where a
// chunk is in several packs, that which was added first counts.
func (k *Known) Add(m *Manifest, usable func(Pack) bool) {
	if k.chunks == nil {
		k.chunks, k.at = map[[32]byte]Chunk{}, map[Pack]int{}
	}
	ok := make([]bool, len(m.Packs))
	for i, p := range m.Packs {
		ok[i] = usable(p)
	}
	for _, c := range m.Chunks {
		if _, have := k.chunks[c.Digest]; have || !ok[c.Pack] {
			continue
		}
		p := m.Packs[c.Pack]
		at, have := k.at[p]
		if !have {
			at = len(k.packs)
			k.packs, k.at[p] = append(k.packs, p), at
		}
		c.Pack = at
		k.chunks[c.Digest] = c
	}
}

// place gives those of a manifest's chunks that have no place yet a known one, and returns
// for which there is none.
// Packs of which less than half would be used, and small ones if there are many, count as
// if they were not there: so that who reads a content reads few blobs, and mostly what
// belongs to it.
func (k *Known) place(m *Manifest) (missing []int) {
	used := map[int]int64{}
	for i := range m.Chunks {
		if c, ok := k.lookup(&m.Chunks[i]); ok && m.Chunks[i].Stored == 0 {
			used[c.Pack] += int64(c.Stored)
		}
	}
	small := 0
	for at, n := range used {
		switch p := k.packs[at]; {
		case 2*n < p.Size:
			delete(used, at)
		case p.Size < smallPack:
			small++
		}
	}
	index := map[int]int{}
	for i := range m.Chunks {
		if m.Chunks[i].Stored > 0 {
			continue
		}
		c, ok := k.lookup(&m.Chunks[i])
		if ok {
			_, ok = used[c.Pack]
		}
		if !ok || small > manySmall && k.packs[c.Pack].Size < smallPack {
			missing = append(missing, i)
			continue
		}
		at, ok := index[c.Pack]
		if !ok {
			at = len(m.Packs)
			m.Packs, index[c.Pack] = append(m.Packs, k.packs[c.Pack]), at
		}
		c.Pack = at
		m.Chunks[i] = c
	}
	return missing
}

func (k *Known) lookup(c *Chunk) (Chunk, bool) {
	if k == nil {
		return Chunk{}, false
	}
	got, ok := k.chunks[c.Digest]
	return got, ok && got.Size == c.Size
}
