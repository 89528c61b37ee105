package executor

import (
	"context"
	"errors"

	"layered.build/builder/planner/dag"
)

var errTODO = errors.New("not implemented yet")

func (s *Solver) solve(ctx context.Context, roots []dag.Edge) ([]Result, error) { return nil, errTODO }

func (s *Solver) plan(ctx context.Context, roots []dag.Edge) ([]StepPlan, error) { return nil, errTODO }
