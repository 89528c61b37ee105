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
	scan dag.SecretScan
	// allowed: what is found is only noted.
	allowed bool
	// handed are the secrets by id. Nothing is added once they were searched for.
	handed map[string][]byte
	once   sync.Once
	// looked is what is hidden. What is found of grave is a leak, of slight it is only
	// noted. nil: there is nothing.
	looked, grave, slight *secretscan.Set

	mu   sync.Mutex            // guards the following
	leak *executor.LeakError   // the first that was found of grave
	left []*executor.LeakError // what was found of slight, one for each secret
}

func (w *Worker) newGuard() *guard {
	scan := w.build.SecretScan
	allowed := w.grants.Has(dag.PermissionSecretLeak) || scan == dag.SecretScanWarn || scan == dag.SecretScanOff
	return &guard{scan: scan, allowed: allowed, handed: map[string][]byte{}}
}

// fetchGuard is the guard of a step without a process: if it reads what was fetched
// from elsewhere, the secrets that were used for that. These are secrets, whatever they
// look like.
func (w *Worker) fetchGuard(job *executor.Job) *guard {
	g := w.newGuard()
	if g.scan == dag.SecretScanDefault {
		g.scan = dag.SecretScanError
	}
	if w.build.Sent != nil && slices.ContainsFunc(job.Inputs, func(in executor.Result) bool { return in.Remote != nil }) {
		g.handed = w.build.Sent()
	}
	return g
}

// set is what is searched for, nil if there is nothing.
func (g *guard) set() *secretscan.Set {
	g.once.Do(func() {
		if len(g.handed) == 0 {
			return
		}
		g.looked = secretscan.New(g.handed)
		if g.grave, g.slight = secretscan.Split(g.handed); g.scan == dag.SecretScanError {
			g.grave, g.slight = g.looked, nil
		}
	})
	return g.looked
}

// note remembers what was found, and makes an error of it if it is grave and not allowed.
func (g *guard) note(f *secretscan.Found, place string) error {
	err := &executor.LeakError{Found: f, Place: place}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isGrave(f) {
		if !slices.ContainsFunc(g.left, func(have *executor.LeakError) bool { return have.Found.Secret == f.Secret }) {
			g.left = append(g.left, err)
		}
		return nil
	}
	if g.leak == nil {
		g.leak = err
	}
	if g.allowed {
		return nil
	}
	return err
}

func (g *guard) isGrave(f *secretscan.Found) bool {
	return f.Likely || g.scan == dag.SecretScanError
}

// leaked reports whether a secret was found that may not stay in the cache.
func (g *guard) leaked() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leak != nil
}

// warn says what was found and is let pass.
func (g *guard) warn(job *executor.Job, allowed string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.scan == dag.SecretScanOff {
		return
	}
	if g.leak != nil {
		warn(job, g.leak.Error()+allowed)
	}
	for _, f := range g.left {
		warn(job, f.Error()+": it does not look like a secret")
	}
}

// find searches a text that is whole, for what is grave before the rest.
func (g *guard) find(text string) *secretscan.Found {
	g.set()
	for _, s := range []*secretscan.Set{g.grave, g.slight} {
		if s == nil {
			continue
		}
		if f := s.Find([]byte(text)); f != nil {
			return f
		}
	}
	return nil
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
		if f := i.g.find(text); f != nil {
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
	c := &content{inspector: i, e: e}
	for _, s := range []*secretscan.Set{i.g.grave, i.g.slight} {
		if s != nil {
			c.streams = append(c.streams, s.Stream())
		}
	}
	return c
}

// name is a path that can be shown. Inspect has seen to it that it holds no secret,
// unless that is allowed.
func (i inspector) name(e *snapshot.Entry) string {
	if i.g.find(e.Path) != nil {
		return "a file in /" + i.dir(e.Path)
	}
	return "/" + e.Path
}

// dir is the folder of a path as far as it holds no secret.
func (i inspector) dir(p string) string {
	for p = path.Dir(p); p != "." && i.g.find(p) != nil; {
		p = path.Dir(p)
	}
	return strings.TrimPrefix(p, ".")
}

// content searches a file.
type content struct {
	inspector
	streams []*secretscan.Stream // of which nothing was found yet
	e       *snapshot.Entry
}

// Write implements io.Writer.
func (c *content) Write(p []byte) (int, error) {
	var errs []error
	c.streams = slices.DeleteFunc(c.streams, func(s *secretscan.Stream) bool {
		_, err := s.Write(p)
		var f *secretscan.Found
		if errors.As(err, &f) {
			errs = append(errs, c.g.note(f, c.name(c.e)))
		}
		return f != nil
	})
	return len(p), errors.Join(errs...)
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

// leaks is the error of what was hidden, nil if that is allowed. What does not look like a
// secret is hidden as well, and that is all.
func (m *masks) leaks() error {
	i := slices.IndexFunc(m.writers, func(w *secretscan.Mask) bool { return w.Found() != nil && m.g.isGrave(w.Found()) })
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
