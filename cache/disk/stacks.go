package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sort"
	"sync"

	"layered.build/builder/cache"
	"layered.build/builder/snapshot"
)

const (
	// manyLayers is how many layers nobody knew make a stack worth remembering.
	manyLayers = 8
	// manyStacks is how many stacks are remembered.
	manyStacks = 8
	// firstStack is what stands before the layers of a record's first output. It cannot
	// be part of a value, where quotation marks are escaped.
	firstStack = `"Outputs":[[`
)

// stacks remembers the highest of the stacks that records had, as they are written, the
// one that was used last first. The record of each step of a chain has all layers of the
// one before: of these only what is new is decoded, and the layers are shared.
//
// Nobody changes the layers of a stack that a record has.
type stacks struct {
	mu    sync.Mutex
	known []*written // guarded by mu, with what they point at
}

// written is a stack and its text: objects with a comma between them.
type written struct {
	stack snapshot.Stack
	text  []byte
	ends  []int // of the objects in text
}

// decode reads a record, which is JSON.
func (s *stacks) decode(payload []byte) (*cache.Record, error) {
	head, text, ok := bytes.Cut(payload, []byte(firstStack))
	if !ok {
		var r cache.Record
		return &r, json.Unmarshal(payload, &r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w, n := s.longest(text)
	skip := w.end(n)
	rest := text[skip:]
	if n > 0 {
		rest = bytes.TrimPrefix(rest, []byte{','})
	}
	var r cache.Record
	if err := json.Unmarshal(slices.Concat(head, []byte(firstStack), rest), &r); err != nil {
		return nil, err
	}
	if len(r.Outputs) == 0 {
		return nil, errors.New("two lists of outputs")
	}
	r.Outputs[0] = s.remember(w, n, r.Outputs[0], text)
	return &r, nil
}

// longest finds the stack that has the most layers in common with a text, and how many.
func (s *stacks) longest(text []byte) (*written, int) {
	w, most := &written{}, 0
	for _, k := range s.known {
		if n := k.common(text); n > most {
			w, most = k, n
		}
	}
	return w, most
}

// common is how many layers a text begins with that w begins with too.
func (w *written) common(text []byte) int {
	at := 0 // so far they are known to be equal
	return sort.Search(len(w.ends), func(i int) bool {
		end := w.ends[i]
		if end <= at {
			return false
		}
		if len(text) < end || !bytes.Equal(text[at:end], w.text[at:end]) {
			return true
		}
		at = end
		return false
	})
}

// end is where the first n layers end in the text.
func (w *written) end(n int) int {
	if n == 0 {
		return 0
	}
	return w.ends[n-1]
}

// remember returns the stack that has the lowest n layers of w and then others, and
// remembers it if that is of use. Text begins with all of its layers.
func (s *stacks) remember(w *written, n int, others snapshot.Stack, text []byte) snapshot.Stack {
	if n == 0 && len(others) < manyLayers {
		return others
	}
	stack := w.stack[:n:n]
	grows := n > 0 && n == len(w.stack)
	if !grows && len(others) < manyLayers {
		s.use(w)
		return append(stack, others...)
	}
	at := w.end(n)
	if n > 0 {
		at++ // the comma
	}
	ends := ends(text, at, others)
	if ends == nil {
		return append(stack, others...)
	}
	if !grows {
		w = &written{stack: stack, text: slices.Clone(w.text[:w.end(n)]), ends: slices.Clone(w.ends[:n])}
	}
	if len(others) > 0 {
		w.text = append(w.text, text[w.end(n):ends[len(ends)-1]]...)
		w.stack, w.ends = append(w.stack, others...), append(w.ends, ends...)
	}
	s.use(w)
	return slices.Clip(w.stack)
}

// use puts a stack first.
func (s *stacks) use(w *written) {
	s.known = slices.DeleteFunc(s.known, func(k *written) bool { return k == w })
	s.known = slices.Insert(s.known, 0, w)
	s.known = s.known[:min(len(s.known), manyStacks)]
}

// ends is where layers end in a text that has them at a place. It is nil if they are not
// written there as they are written now.
func ends(text []byte, at int, layers snapshot.Stack) []int {
	out := make([]int, 0, len(layers))
	for i, l := range layers {
		if i > 0 {
			at++ // the comma
		}
		b, err := json.Marshal(l)
		if err != nil || at > len(text) || !bytes.HasPrefix(text[at:], b) {
			return nil
		}
		at += len(b)
		out = append(out, at)
	}
	return out
}
