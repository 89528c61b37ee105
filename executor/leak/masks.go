package leak

import (
	"errors"
	"io"
	"slices"

	"layered.build/builder/executor"
	"layered.build/builder/executor/secretscan"
)

// Masks hide a guard's secrets in a process's output. They are for one goroutine at a time
// but for the writers.
type Masks struct {
	g       *Guard
	writers []*secretscan.Mask
}

// Masks returns what hides the secrets that were handed out.
func (g *Guard) Masks() *Masks { return &Masks{g: g} }

// Wrap returns a writer that hides secrets from w.
func (m *Masks) Wrap(w io.Writer) io.Writer {
	set := m.g.set()
	if set == nil {
		return w
	}
	mask := set.Mask(w)
	m.writers = append(m.writers, mask)
	return mask
}

// Close writes what was held back, and notes what was hidden.
func (m *Masks) Close() error {
	var errs []error
	for _, w := range m.writers {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// Leaks is the error of what was hidden, nil if that is allowed. What does not look like a
// secret is hidden as well, and that is all.
func (m *Masks) Leaks() error {
	i := slices.IndexFunc(m.writers, func(w *secretscan.Mask) bool { return w.Found() != nil && m.g.isGrave(w.Found()) })
	if i < 0 {
		return nil
	}
	return m.g.note(m.writers[i].Found(), "the log")
}

// Contacts hides secrets in the names that a process looked up.
func (g *Guard) Contacts(in []executor.Contact) []executor.Contact {
	if set := g.set(); set != nil {
		for i, c := range in {
			if set.Find([]byte(c.Name)) != nil {
				in[i].Name = "(a secret)"
			}
		}
	}
	return in
}
