package secretscan

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// Set is what is searched for. It is immutable and safe for concurrent use.
type Set struct {
	// plain finds the values, encoded their encodings: there, line ends may stand
	// anywhere.
	plain, encoded *automaton
}

// New returns the set of the given values by id, nil if none of them can be
// searched.
func New(secrets map[string][]byte) *Set {
	return newSet(patternsOf(secrets), func(pattern) bool { return true })
}

// Split returns the set of the values, and parts of values, that are likely to be secrets
// (see Likely), and that of the others; nil for an empty one.
func Split(secrets map[string][]byte) (likely, unlikely *Set) {
	all := patternsOf(secrets)
	return newSet(all, func(p pattern) bool { return p.likely }), newSet(all, func(p pattern) bool { return !p.likely })
}

// patternsOf are all patterns of the values that can be searched.
func patternsOf(secrets map[string][]byte) []pattern {
	var out []pattern
	for _, id := range slices.Sorted(maps.Keys(secrets)) {
		if v := whole(secrets[id]); v != nil {
			likely := Likely(secrets[id])
			out = append(out, pattern{bytes: v, secret: id, form: Plain, likely: likely})
			out = append(out, partPatterns(id, secrets[id], v)...)
			out = append(out, encodedPatterns(id, v, likely)...)
		}
	}
	return out
}

func newSet(from []pattern, wanted func(pattern) bool) *Set {
	var plain, encoded []pattern
	for _, p := range from {
		switch {
		case !wanted(p):
		case p.form == Plain:
			plain = append(plain, p)
		default:
			encoded = append(encoded, p)
		}
	}
	if plain == nil {
		return nil
	}
	return &Set{plain: newAutomaton(plain, ""), encoded: newAutomaton(encoded, "\r\n")}
}

// Found is a secret that was found. Its text does not hold the secret.
type Found struct {
	Secret string // its id
	Form   Form
	Offset int64 // of its first byte in the stream
	// Likely says that what was found looks like a secret, see the function.
	Likely bool
}

// Error implements error.
func (f *Found) Error() string {
	form := ""
	if f.Form != Plain {
		form = " in " + string(f.Form)
	}
	return fmt.Sprintf("secret %s%s at offset %d", f.Secret, form, f.Offset)
}

// Find searches a value that is whole; nil if it holds no secret.
func (s *Set) Find(p []byte) *Found { return s.Stream().find(p) }

// Stream returns a writer that searches what is written to it. Write returns a
// *Found when the first secret is complete; nothing may be written afterwards.
func (s *Set) Stream() *Stream {
	return &Stream{plain: walker{a: s.plain}, encoded: walker{a: s.encoded}}
}

// Stream searches one stream of bytes.
type Stream struct {
	plain, encoded walker
	pos            int64
}

var _ io.Writer = (*Stream)(nil)

// Write implements io.Writer.
func (s *Stream) Write(p []byte) (int, error) {
	if f := s.find(p); f != nil {
		return 0, f
	}
	return len(p), nil
}

func (s *Stream) find(p []byte) *Found {
	for _, w := range []*walker{&s.plain, &s.encoded} {
		if end, ok := w.next(p, 0); ok {
			pat := w.a.patterns[w.found()]
			return &Found{Secret: pat.secret, Form: pat.form, Offset: s.pos + int64(end) - w.span(len(pat.bytes)), Likely: pat.likely}
		}
		w.advance(len(p))
	}
	s.pos += int64(len(p))
	return nil
}

// walker is an automaton's state in a stream.
type walker struct {
	a  *automaton
	at int32
	// passed are the places of transparent bytes since the prefix began, counted
	// from the start of the current buffer (negative for earlier ones).
	passed []int
	end    int // of the last match, in the current buffer
}

// maxPassed bounds how many transparent bytes are remembered: more than a pattern
// has bytes is no encoded text any more.
const maxPassed = 2 * maxPattern

// next takes bytes of p in from a place on, until a pattern ends; it returns the
// place after it.
func (w *walker) next(p []byte, from int) (int, bool) {
	a, at := w.a, w.at
	for i := from; i < len(p); i++ {
		switch {
		case at == 0:
			i = a.skip(p, i)
			if at = a.root[p[i]]; at == 0 {
				continue
			}
		case a.transparent[p[i]]:
			w.pass(i)
			continue
		default:
			at = a.step(at, p[i])
		}
		if a.states[at].depth <= 1 {
			w.passed = w.passed[:0]
		}
		if a.states[at].found >= 0 {
			w.at, w.end = at, i+1
			return i + 1, true
		}
	}
	w.at = at
	return len(p), false
}

func (w *walker) pass(i int) {
	if len(w.passed) >= maxPassed {
		w.passed = append(w.passed[:0], w.passed[len(w.passed)-maxPassed/2:]...)
	}
	w.passed = append(w.passed, i)
}

// advance goes on to the next buffer.
func (w *walker) advance(n int) {
	for i := range w.passed {
		w.passed[i] -= n
	}
	w.end -= n
}

func (w *walker) found() int32 { return w.a.states[w.at].found }

// span is how many bytes of the stream the last n bytes of encoded text take, up
// to the last match.
func (w *walker) span(n int) int64 { return int64(w.spanTo(n, w.end)) }

func (w *walker) spanTo(n, end int) int {
	start := end - n
	for i := len(w.passed) - 1; i >= 0; i-- {
		if w.passed[i] < end && w.passed[i] >= start {
			start--
		}
	}
	return end - start
}
