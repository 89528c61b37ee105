// Package source reads what a build takes from outside: directories of this
// machine. It never leaves the directory it was given, and it remembers in a stat
// index what it has hashed.
package source

import (
	"context"
	"errors"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Contexts are the named directories of a build. It implements
// executor.ContextSource. Sources with equal name and patterns share one Tree.
type Contexts struct {
	// Dirs are the directories by name ("context", "dockerfile", …).
	Dirs map[string]string
	// StateDir keeps the stat indexes; "" hashes every file anew.
	StateDir string
}

// Tree implements executor.ContextSource.
func (c *Contexts) Tree(ctx context.Context, src *dag.LocalSource) (snapshot.Tree, error) {
	return nil, errors.New("not implemented yet")
}

// IgnoredError says that a path exists but an ignore pattern excludes it.
type IgnoredError struct {
	Path    string
	Pattern string
}

// Error implements error.
func (e *IgnoredError) Error() string {
	return "/" + e.Path + ": not found (excluded by the ignore pattern " + e.Pattern + ")"
}
