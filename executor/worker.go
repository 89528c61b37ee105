package executor

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Result is what a step made.
type Result struct {
	// Stack is the file system, for all steps but local sources. An Exec or a File
	// adds exactly one layer to its base (an Exec to that of each output), an empty one
	// if nothing changed.
	Stack snapshot.Stack
	// Tree is set for sources that are no layers (a build context).
	Tree snapshot.Tree
	// Reads are the paths of Tree that the build reads; nil is all of it.
	Reads []string
	// Remote is set for sources that are fetched when their files are needed.
	Remote *Remote
}

// Remote are the files of a git or HTTP source, which may not be here yet.
type Remote struct {
	// Name names the files: the steps that read them are looked up by it.
	Name digest.Digest
	// Details say what went into Name.
	Details []cache.Part
	// Exact says that Name stands for the content too (an HTTP source, whose time
	// of modification counts); otherwise what is read of the files does.
	Exact bool
	// Files fetches the files, once. It is safe for concurrent use.
	Files func(ctx context.Context) (snapshot.Tree, error)
}

// Job is one step that is to be run.
type Job struct {
	Step   *dag.Step
	Inputs []Result // as Step.Inputs; the zero Result for scratch
	// Mounted says that a process of the same graph will have the result mounted,
	// so that its directory form is needed soon.
	Mounted bool
	// Observer receives logs, progress and warnings of the step.
	Observer Observer
}

// Worker does steps. Implementations are safe for concurrent use.
type Worker interface {
	// Allow refuses a step that must not be done for this build, and whose result it
	// must not get either if another build has made it. The error matches ErrNotAllowed if
	// a permission is lacking.
	Allow(step *dag.Step) error
	// InputDigest returns a digest of what a step reads of one of its inputs: the
	// content of the paths that it selects, or of the whole file system. The
	// parts say what went into it, for people. A step that reads nothing of the
	// input (a copy destination) still sees all of it.
	InputDigest(ctx context.Context, step *dag.Step, input int, res Result) (digest.Digest, []cache.Part, error)
	// Run does a step.
	Run(ctx context.Context, job *Job) (*Outcome, error)
}

// Outcome is what running a step gave.
type Outcome struct {
	// Results are those of the step's outputs, all of them.
	Results []Result
	// Passing says that the results must not be recorded.
	Passing bool
	// Findings are what the step found out about what it was asked for.
	Findings []cache.Finding
	// Usage is set for a process.
	Usage *Usage
}

// ContextSource gives access to a named local directory.
type ContextSource interface {
	// Tree returns the files of a local source with its ignore patterns applied.
	Tree(ctx context.Context, src *dag.LocalSource) (snapshot.Tree, error)
}

// RemoteSource opens git and HTTP sources.
type RemoteSource interface {
	// Open finds out what a source is now, and leaves fetching it for later where
	// that is possible.
	Open(ctx context.Context, src *dag.Source) (*Remote, error)
}

// ImageSource gives the layers of an image, without fetching them.
type ImageSource interface {
	Layers(ctx context.Context, src *dag.ImageSource, platform string) (snapshot.Stack, error)
}

// LayoutSource gives the layers of an image in an OCI image layout, without reading them
// where that is possible.
type LayoutSource interface {
	LayoutLayers(ctx context.Context, src *dag.OCILayoutSource, platform string) (snapshot.Stack, error)
}

// Secrets hands out secrets by id; an unknown id is an error that matches
// fs.ErrNotExist.
type Secrets interface {
	Secret(ctx context.Context, id string) ([]byte, error)
}

// SSHAgents connects to an ssh agent by id; an unknown id is an error that
// matches fs.ErrNotExist.
type SSHAgents interface {
	Dial(ctx context.Context, id string) (io.ReadWriteCloser, error)
}
