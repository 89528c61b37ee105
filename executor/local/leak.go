package local

import (
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/executor/secretscan"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// guard sees to it that no secret that a step was given stays in what it made: its
// layer or its log.
type guard struct {
	// allowed: what is found is only noted.
	allowed bool
	// handed are the secrets by id. Nothing is added once set was asked for.
	handed map[string][]byte
	once   sync.Once
	looked *secretscan.Set

	mu   sync.Mutex // guards leak
	leak *executor.LeakError
}

func (w *Worker) newGuard() *guard {
	return &guard{allowed: w.grants.Has(dag.PermissionSecretLeak), handed: map[string][]byte{}}
}

// fetchGuard is the guard of a step without a process: if it reads what was fetched
// from elsewhere, the secrets that were used for that.
func (w *Worker) fetchGuard(job *executor.Job) *guard {
	g := w.newGuard()
	if w.build.Sent != nil && slices.ContainsFunc(job.Inputs, func(in executor.Result) bool { return in.Remote != nil }) {
		g.handed = w.build.Sent()
	}
	return g
}

// set is what is searched for, nil if there is nothing.
func (g *guard) set() *secretscan.Set {
	g.once.Do(func() {
		if len(g.handed) > 0 {
			g.looked = secretscan.New(g.handed)
		}
	})
	return g.looked
}

// note remembers the first secret that was found, and makes an error of it unless
// that is allowed.
func (g *guard) note(f *secretscan.Found, place string) error {
	err := &executor.LeakError{Found: f, Place: place}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leak == nil {
		g.leak = err
	}
	if g.allowed {
		return nil
	}
	return err
}

// found is the first secret that was found.
func (g *guard) found() *executor.LeakError {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leak
}

// inspector returns what searches a layer, nil if there is nothing to search for.
func (g *guard) inspector() snapshot.Inspector {
	if g.set() == nil {
		return nil
	}
	return inspector{g}
}

// inspector searches the entries of a layer.
type inspector struct{ g *guard }

// Inspect implements snapshot.Inspector: it searches all but the content.
func (i inspector) Inspect(e *snapshot.Entry) error {
	if e.Type == snapshot.TypeWhiteout { // the name is of a layer below
		return nil
	}
	var errs []error
	look := func(text, place string) {
		if f := i.g.set().Find([]byte(text)); f != nil {
			errs = append(errs, i.g.note(f, place))
		}
	}
	look(e.Path, "the name of a file in /"+i.dir(e.Path))
	look(e.Linkname, "the target of the link "+i.name(e))
	for key, value := range e.Xattrs {
		look(key, "the name of an attribute of "+i.name(e))
		look(value, "an attribute of "+i.name(e))
	}
	return errors.Join(errs...)
}

// Content implements snapshot.Inspector.
func (i inspector) Content(e *snapshot.Entry) io.Writer {
	return &content{inspector: i, stream: i.g.set().Stream(), e: e}
}

// name is a path that can be shown. Inspect has seen to it that it holds no secret,
// unless that is allowed.
func (i inspector) name(e *snapshot.Entry) string {
	if i.g.set().Find([]byte(e.Path)) != nil {
		return "a file in /" + i.dir(e.Path)
	}
	return "/" + e.Path
}

// dir is the folder of a path as far as it holds no secret.
func (i inspector) dir(p string) string {
	for p = path.Dir(p); p != "." && i.g.set().Find([]byte(p)) != nil; {
		p = path.Dir(p)
	}
	return strings.TrimPrefix(p, ".")
}

// content searches a file.
type content struct {
	inspector
	stream *secretscan.Stream
	e      *snapshot.Entry
	done   bool // a secret was found, and that is allowed
}

// Write implements io.Writer.
func (c *content) Write(p []byte) (int, error) {
	if c.done {
		return len(p), nil
	}
	_, err := c.stream.Write(p)
	var f *secretscan.Found
	if errors.As(err, &f) {
		c.done = true
		err = c.g.note(f, c.name(c.e))
	}
	return len(p), err
}

// masks hides the guard's secrets in a process's output.
type masks struct {
	g       *guard
	writers []*secretscan.Mask
}

// wrap returns a writer that hides secrets from w.
func (m *masks) wrap(w io.Writer) io.Writer {
	set := m.g.set()
	if set == nil {
		return w
	}
	mask := set.Mask(w)
	m.writers = append(m.writers, mask)
	return mask
}

// close writes what was held back, and notes what was hidden.
func (m *masks) close() error {
	var errs []error
	for _, w := range m.writers {
		errs = append(errs, w.Close())
	}
	return errors.Join(errs...)
}

// leaks is the error of what was hidden, nil if that is allowed.
func (m *masks) leaks() error {
	i := slices.IndexFunc(m.writers, func(w *secretscan.Mask) bool { return w.Found() != nil })
	if i < 0 {
		return nil
	}
	return m.g.note(m.writers[i].Found(), "the log")
}

// contacts hides secrets in the names that a process looked up.
func (g *guard) contacts(in []executor.Contact) []executor.Contact {
	if set := g.set(); set != nil {
		for i, c := range in {
			if set.Find([]byte(c.Name)) != nil {
				in[i].Name = "(a secret)"
			}
		}
	}
	return in
}
