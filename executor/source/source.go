// Package source reads what a build takes from outside: directories of this
// machine. It never leaves the directory it was given, and it remembers in a stat
// index what it has hashed.
package source

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Contexts are the named directories of a build. It implements
// executor.ContextSource. Sources with equal name and patterns share one Tree, so
// a Contexts is for one build: files are looked at once.
type Contexts struct {
	// Dirs are the directories by name ("context", "dockerfile", …).
	Dirs map[string]string
	// StateDir keeps the stat indexes; "" hashes every file anew.
	StateDir string
	// Given is what archives say of objects, by the directory's name and the path in
	// it: of a context that came as an archive.
	Given map[string]map[string]*Given

	// Changed, unless nil, is told of files that did not stay the same while they were
	// read, and are taken as they were; by many goroutines.
	Changed func(dir, p string)

	mu    sync.Mutex // guards trees
	trees map[string]*Tree
}

// Tree implements executor.ContextSource.
func (c *Contexts) Tree(ctx context.Context, src *dag.LocalSource) (snapshot.Tree, error) {
	dir, ok := c.Dirs[src.Name]
	if !ok {
		return nil, fmt.Errorf("no directory is given for %s", src.Name)
	}
	id := src.Name + "\x00" + strings.Join(src.Excludes, "\x00")
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.trees[id]; ok {
		return t, nil
	}
	t, err := Open(dir, src.Excludes, c.StateDir)
	if err != nil {
		return nil, err
	}
	t.given = c.Given[src.Name]
	if c.Changed != nil {
		t.changed = func(p string) { c.Changed(dir, p) }
	}
	if c.trees == nil {
		c.trees = map[string]*Tree{}
	}
	c.trees[id] = t
	return t, nil
}

// Renew makes all trees look at their files again, after snapshot.ErrChanged; see
// Tree.Renew.
func (c *Contexts) Renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.trees {
		t.Renew()
	}
}

// Close closes all trees.
func (c *Contexts) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first error
	for _, t := range c.trees {
		if err := t.Close(); err != nil && first == nil {
			first = err
		}
	}
	c.trees = nil
	return first
}

var _ executor.ContextSource = (*Contexts)(nil)
