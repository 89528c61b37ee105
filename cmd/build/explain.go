package build

import (
	"context"
	"errors"
	"strings"

	"layered.build/builder/executor"
	"layered.build/builder/parser"
	"layered.build/builder/planner"
)

// Error adds to an error of a build what is needed to explain it. Its text is the cause's.
type Error struct {
	Err error
	// File is the Dockerfile.
	File *parser.File
	// Plan is what was planned; nil: that is what failed.
	Plan *planner.Plan
	// Before names what the failed step would have run on: by the first 12 digits of its
	// id, or by a reference; "" if there is no such step or it is not known.
	Before string
	// Ignore is the ignore file of the context; nil: it has none.
	Ignore *parser.Ignore
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// explain adds to an error what the plan knows. Either may be nil.
func (p *Plan) explain(err error) error {
	var known *Error
	if err == nil || p == nil || p.File == nil || errors.As(err, &known) {
		return err
	}
	return &Error{Err: err, File: p.File, Plan: p.Plan, Ignore: p.Definition.Ignore}
}

// keepFinished records the instructions that were done before a build failed, so that
// their results can be looked at, and adds to the error what the failed step would have
// run on.
func (j *Job) keepFinished(ctx context.Context, s *Solution, cause error) error {
	out := &Error{Err: cause, File: s.plan.File, Plan: s.plan.Plan, Ignore: s.plan.Definition.Ignore}
	last, err := j.record(ctx, s)
	if err != nil {
		out.Err = errors.Join(cause, err)
	}
	var step *executor.StepError
	if !errors.As(cause, &step) {
		return out
	}
	for _, st := range s.plan.Stages {
		for _, inst := range st.Instructions {
			switch {
			case inst.Step != step.Step:
			case last[st] != "":
				out.Before = shortID(last[st])
			case st.Base != nil:
				out.Before = st.Base.Ref
			}
		}
	}
	return out
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
