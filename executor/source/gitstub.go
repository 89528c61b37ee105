package source

import (
	"context"
	"errors"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
)

const (
	gitRepos     = "git/repos"
	gitCheckouts = "git/checkouts"
)

type GitCommit struct{}

func (r *Remote) openGit(ctx context.Context, src *dag.GitSource) (*executor.Remote, error) {
	return nil, errors.New("git sources are not supported yet")
}
