// Package local runs build steps on this machine.
package local

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Options configure a Worker.
type Options struct {
	// Store keeps the layers. Required. Cache mounts, logs and secrets in use lie
	// in the folders mounts, logs and run beside its own.
	Store *snapshot.Store
	// Sandbox runs processes; without one an Exec fails.
	Sandbox sandbox.Sandbox
	// Contexts, Images and Secrets are where sources come from; nil has none.
	Contexts executor.ContextSource
	Images   executor.ImageSource
	Secrets  executor.Secrets
	// Epoch, if set, is the latest modification time of what new layers hold, and
	// the time of directories that a step makes by itself.
	Epoch *time.Time
	// Insecure allows processes that ask for SecurityInsecure.
	Insecure bool
	// HostNetwork allows processes that ask for NetHost.
	HostNetwork bool
}

// Worker runs steps on this machine. It is safe for concurrent use.
type Worker struct{ o Options }

// New returns a Worker.
func New(o Options) *Worker { return &Worker{o: o} }

var errTODO = errors.New("not implemented yet")

// InputDigest implements executor.Worker.
func (w *Worker) InputDigest(ctx context.Context, step *dag.Step, input int, res executor.Result) (digest.Digest, []cache.Part, error) {
	return "", nil, errTODO
}

// Run implements executor.Worker.
func (w *Worker) Run(ctx context.Context, job *executor.Job) (*executor.Outcome, error) {
	return nil, errTODO
}

var _ executor.Worker = (*Worker)(nil)
