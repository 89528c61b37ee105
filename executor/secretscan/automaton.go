package secretscan

// automaton finds any of several patterns in a stream (Aho and Corasick, Efficient
// string matching, 1975). State 0 is the root.
type automaton struct {
	root     [256]int32 // transitions of state 0
	states   []state
	patterns []pattern
	// transparent bytes leave the state as it is: line ends within encoded text.
	transparent [256]bool
	// pairs are the two bytes that a pattern can begin with, a bit each.
	pairs [1 << 16 / 64]uint64
}

// state is what is known of the bytes that came last: they are the longest prefix
// of a pattern that they can be.
type state struct {
	edges []edge
	fail  int32 // the longest proper suffix that is a prefix too
	depth int32 // length of the prefix
	// found is the longest pattern that ends here, -1 if none does.
	found int32
}

type edge struct {
	b  byte
	to int32
}

// pattern is one form of a secret.
type pattern struct {
	bytes  []byte
	secret string // its id
	form   Form
	likely bool // it looks like a secret
}

func newAutomaton(patterns []pattern, transparent string) *automaton {
	a := &automaton{states: []state{{found: -1}}, patterns: patterns}
	for _, b := range []byte(transparent) {
		a.transparent[b] = true
	}
	for i, p := range patterns {
		a.add(p.bytes, int32(i))
		a.pair(p.bytes[0], p.bytes[1])
		for _, b := range []byte(transparent) {
			a.pair(p.bytes[0], b)
		}
	}
	a.link()
	return a
}

func (a *automaton) add(p []byte, index int32) {
	at := int32(0)
	for i, b := range p {
		next, ok := a.child(at, b)
		if !ok {
			next = int32(len(a.states))
			a.states = append(a.states, state{depth: int32(i + 1), found: -1})
			a.states[at].edges = append(a.states[at].edges, edge{b, next})
		}
		at = next
	}
	if a.states[at].found < 0 {
		a.states[at].found = index
	}
}

func (a *automaton) pair(first, second byte) {
	n := int(first)<<8 | int(second)
	a.pairs[n/64] |= 1 << (n % 64)
}

// skip returns the next place at which a pattern can begin, or the last one.
func (a *automaton) skip(p []byte, at int) int {
	for ; at+1 < len(p); at++ {
		n := int(p[at])<<8 | int(p[at+1])
		if a.pairs[n/64]&(1<<(n%64)) != 0 {
			return at
		}
	}
	return at
}

func (a *automaton) child(at int32, b byte) (int32, bool) {
	for _, e := range a.states[at].edges {
		if e.b == b {
			return e.to, true
		}
	}
	return 0, false
}

// link sets the failure links, breadth first.
func (a *automaton) link() {
	var queue []int32
	for _, e := range a.states[0].edges {
		a.root[e.b] = e.to
		queue = append(queue, e.to)
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, e := range a.states[at].edges {
			s := &a.states[e.to]
			s.fail = a.step(a.states[at].fail, e.b)
			if s.found < 0 {
				s.found = a.states[s.fail].found
			}
			queue = append(queue, e.to)
		}
	}
}

// step takes one byte in.
func (a *automaton) step(at int32, b byte) int32 {
	for at != 0 {
		if next, ok := a.child(at, b); ok {
			return next
		}
		at = a.states[at].fail
	}
	return a.root[b]
}
