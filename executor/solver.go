package executor

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Result is what a step made.
type Result struct {
	// Stack is the file system, for all steps but local sources.
	Stack snapshot.Stack
	// Tree is set for sources that are no layers (a build context).
	Tree snapshot.Tree
}

// Worker does steps. Implementations are safe for concurrent use.
type Worker interface {
	// Key returns a content digest for steps that have no stable name (a local
	// source reads as the selected paths of its consumers), and "" for others.
	// See docs/ARCHITECTURE.md, "three names for a step".
	InputDigest(ctx context.Context, step *dag.Step, input int, res Result) (digest.Digest, error)
	// Run executes one step on the results of its inputs.
	Run(ctx context.Context, step *dag.Step, inputs []Result, obs Observer) (Result, error)
}

// ContextSource gives access to a named local directory.
type ContextSource interface {
	// Tree returns the files of a local source with its ignore patterns applied.
	Tree(ctx context.Context, src *dag.LocalSource) (snapshot.Tree, error)
}

// ImageSource gives the layers of an image, without fetching them.
type ImageSource interface {
	Layers(ctx context.Context, src *dag.ImageSource, platform string) (snapshot.Stack, error)
}

// Secrets hands out secrets by id; an unknown id is an error that matches
// fs.ErrNotExist.
type Secrets interface {
	Secret(ctx context.Context, id string) ([]byte, error)
}

// SSHAgents connects to an ssh agent by id.
type SSHAgents interface {
	Dial(ctx context.Context, id string) (io.ReadWriteCloser, error)
}
