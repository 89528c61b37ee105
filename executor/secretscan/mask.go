package secretscan

import (
	"bytes"
	"io"
)

const (
	// hidden stands for a secret.
	hidden = "****"
	// minHeld is how much of a secret must have been seen for the end of a line to
	// wait for what comes next.
	minHeld = 4
)

// Mask is a writer that hides secrets from another one. What may become a secret is
// held back until it is known. It is for one goroutine at a time.
type Mask struct {
	out            io.Writer
	plain, encoded walker
	held           []byte // seen and not yet written
	ranges         []span // secrets in held, in order, without overlaps
	pos            int64  // of held in the stream
	found          *Found // see Found
}

// span is a range of bytes.
type span struct{ start, end int }

// Mask returns a Mask that writes to out.
func (s *Set) Mask(out io.Writer) *Mask {
	return &Mask{out: out, plain: walker{a: s.plain}, encoded: walker{a: s.encoded}}
}

var _ io.WriteCloser = (*Mask)(nil)

// Found is the first likely secret that was hidden, or else the first, nil if there was none.
func (m *Mask) Found() *Found { return m.found }

// Write implements io.Writer.
func (m *Mask) Write(p []byte) (int, error) {
	from := len(m.held)
	m.held = append(m.held, p...)
	for _, w := range []*walker{&m.plain, &m.encoded} {
		for at := from; ; {
			end, ok := w.next(m.held, at)
			if !ok {
				break
			}
			m.hide(w, end)
			at = end
		}
	}
	if err := m.release(min(m.settled(&m.plain), m.settled(&m.encoded))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what is held back. It does not close the other writer.
func (m *Mask) Close() error { return m.release(len(m.held)) }

// hide notes a secret that ends at a place.
func (m *Mask) hide(w *walker, end int) {
	p := w.a.patterns[w.found()]
	start := end - int(w.span(len(p.bytes)))
	if m.found == nil || p.likely && !m.found.Likely {
		m.found = &Found{Secret: p.secret, Form: p.form, Offset: m.pos + int64(start), Likely: p.likely}
	}
	m.add(span{max(0, start), end})
}

// add inserts a range and joins it with those that it overlaps.
func (m *Mask) add(s span) {
	var out []span
	for i, r := range m.ranges {
		switch {
		case r.end <= s.start:
			out = append(out, r)
		case r.start >= s.end:
			m.ranges = append(append(out, s), m.ranges[i:]...)
			return
		default:
			s = span{min(r.start, s.start), max(r.end, s.end)}
		}
	}
	m.ranges = append(out, s)
}

// settled is how much of held is no beginning of a secret.
func (m *Mask) settled(w *walker) int {
	depth := int(w.a.states[w.at].depth)
	n := len(m.held)
	if depth < minHeld && bytes.HasSuffix(m.held, []byte("\n")) {
		return n
	}
	return max(0, n-w.spanTo(depth, n))
}

// release writes the first n bytes of held, or less where a secret goes on.
func (m *Mask) release(n int) error {
	var out []byte
	at := 0
	for len(m.ranges) > 0 && m.ranges[0].start < n {
		r := m.ranges[0]
		if r.end > n {
			n = r.start
			break
		}
		out = append(append(out, m.held[at:r.start]...), hidden...)
		at = r.end
		m.ranges = m.ranges[1:]
	}
	out = append(out, m.held[at:n]...)
	m.held = append(m.held[:0], m.held[n:]...)
	m.pos += int64(n)
	m.plain.advance(n)
	m.encoded.advance(n)
	for i := range m.ranges {
		m.ranges[i].start -= n
		m.ranges[i].end -= n
	}
	if len(out) == 0 {
		return nil
	}
	_, err := m.out.Write(out)
	return err
}
