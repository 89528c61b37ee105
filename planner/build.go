package planner

import (
	"context"
	"errors"

	"layered.build/builder/parser"
)

// Build plans the images that a Dockerfile and options ask for. Mistakes in the
// Dockerfile, and what it asks for that this builder does not do, are
// *parser.Error; errors of the resolver are wrapped in one that names the line.
// Build changes neither file nor opts and may be called concurrently. The same
// input gives the same plan.
func Build(ctx context.Context, file *parser.File, resolver ImageResolver, opts Options) (*Plan, error) {
	return nil, errors.New("planner: not built yet")
}
