package assemble

import (
	"encoding/json"
	"errors"
	"hash"
	"slices"
)

// members are those of a JSON object or array, each with a comma behind it.
type members struct {
	text []byte
	keys []string
	ends []int          // of the members in text
	at   map[string]int // of a list: where a key is first
}

// setSorted puts a member in the place that its name has among the others.
func (m *members) setSorted(key string, member []byte) {
	i, there := slices.BinarySearch(m.keys, key)
	if !there {
		m.keys = slices.Insert(m.keys, i, key)
		m.ends = slices.Insert(m.ends, i, m.begin(i))
	}
	m.replace(i, member)
}

// setListed puts a member where that with its key is, or last.
func (m *members) setListed(key string, member []byte) {
	if i, there := m.at[key]; there {
		m.replace(i, member)
		return
	}
	m.appendListed(key, member)
}

// appendListed puts a member last, even if there is one with its key.
func (m *members) appendListed(key string, member []byte) {
	if m.at == nil {
		m.at = map[string]int{}
	}
	if _, there := m.at[key]; !there {
		m.at[key] = len(m.ends)
	}
	m.text = append(m.text, member...)
	m.ends = append(m.ends, len(m.text))
}

func (m *members) begin(i int) int {
	if i == 0 {
		return 0
	}
	return m.ends[i-1]
}

// replace gives a member another text.
func (m *members) replace(i int, member []byte) {
	from, to := m.begin(i), m.ends[i]
	m.text = slices.Replace(m.text, from, to, member...)
	for grown := len(member) - (to - from); i < len(m.ends); i++ {
		m.ends[i] += grown
	}
}

// listed is a member of a list of strings.
func listed(s string) []byte { return append(quote(s), ',') }

// named is a member of an object.
func named(name string, value []byte) []byte {
	return append(append(append(quote(name), ':'), value...), ',')
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // every string has its JSON
	return b
}

// jsonWriter writes JSON as encoding/json does.
type jsonWriter struct {
	to   hash.Hash // unless nil, gets what is large, and what is before it
	buf  []byte    // what to has not
	some bool      // the object that is written has a member
	err  error
}

func (w *jsonWriter) open() {
	w.buf = append(w.buf, '{')
	w.some = false
}

func (w *jsonWriter) close() {
	w.buf = append(w.buf, '}')
	w.some = true
}

// name begins a member.
func (w *jsonWriter) name(name string) {
	if w.some {
		w.buf = append(w.buf, ',')
	}
	w.some = true
	w.buf = append(append(append(w.buf, '"'), name...), '"', ':')
}

// value writes a member, unless it is left out.
func (w *jsonWriter) value(name string, v any, there bool) {
	if !there {
		return
	}
	b, err := json.Marshal(v)
	w.name(name)
	w.buf, w.err = append(w.buf, b...), errors.Join(w.err, err)
}

// members writes a list or an object, unless it is empty.
func (w *jsonWriter) members(name, brackets string, m *members) {
	if len(m.ends) == 0 {
		return
	}
	w.name(name)
	w.buf = append(w.buf, brackets[0])
	w.large(m.text[:len(m.text)-1])
	w.buf = append(w.buf, brackets[1])
}

// list writes a list of members that have a comma behind them each.
func (w *jsonWriter) list(name string, members []byte) {
	w.name(name)
	w.buf = append(w.buf, '[')
	w.large(members[:max(0, len(members)-1)])
	w.buf = append(w.buf, ']')
}

func (w *jsonWriter) large(text []byte) {
	if w.to == nil {
		w.buf = append(w.buf, text...)
		return
	}
	w.to.Write(w.buf)
	w.to.Write(text)
	w.buf = w.buf[:0]
}
