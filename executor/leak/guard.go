// Package leak sees to it that secrets that a step was given stay in nothing that it made:
// it searches layers, and hides them in logs.
package leak

import (
	"slices"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/executor/secretscan"
	"layered.build/builder/planner/dag"
)

// Guard sees to it that no secret that a step was given stays in what it made: its
// layer or its log.
type Guard struct {
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

// New returns a guard. Allowed are leaks that would be errors otherwise.
func New(scan dag.SecretScan, allowed bool) *Guard {
	allowed = allowed || scan == dag.SecretScanWarn || scan == dag.SecretScanOff
	return &Guard{scan: scan, allowed: allowed, handed: map[string][]byte{}}
}

// NewStrict returns a guard of secrets that are none by their looks only: by default all
// leaks are errors.
func NewStrict(scan dag.SecretScan, allowed bool, handed map[string][]byte) *Guard {
	if scan == dag.SecretScanDefault {
		scan = dag.SecretScanError
	}
	g := New(scan, allowed)
	g.handed = handed
	return g
}

// Hand notes a secret that the step is given, before anything is searched.
func (g *Guard) Hand(id string, value []byte) { g.handed[id] = value }

// set is what is searched for, nil if there is nothing.
func (g *Guard) set() *secretscan.Set {
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
func (g *Guard) note(f *secretscan.Found, place string) error {
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

func (g *Guard) isGrave(f *secretscan.Found) bool {
	return f.Likely || g.scan == dag.SecretScanError
}

// Leaked reports whether a secret was found that may not stay in the cache.
func (g *Guard) Leaked() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leak != nil
}

// Warnings say what was found and is let pass; allowed says what becomes of what is a leak.
func (g *Guard) Warnings(allowed string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.scan == dag.SecretScanOff {
		return nil
	}
	var out []string
	if g.leak != nil {
		out = append(out, g.leak.Error()+": "+allowed)
	}
	for _, f := range g.left {
		out = append(out, f.Error()+": it does not look like a secret")
	}
	return out
}

// find searches a text that is whole, for what is grave before the rest.
func (g *Guard) find(text string) *secretscan.Found {
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
