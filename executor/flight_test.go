package executor

import (
	"testing"

	"layered.build/builder/planner/dag"
)

// TestBoardAfterLanding proves that who wants a step just when it was made finds it, and does
// not begin anew: the look for what is known and the boarding are one.
func TestBoardAfterLanding(t *testing.T) {
	s := New(Options{})
	step := &dag.Step{Op: &dag.Exec{Args: []string{"make"}}}
	first, mine := s.board(step.ID())
	if !mine {
		t.Fatal("nobody makes it")
	}
	if f, mine := s.board(step.ID()); mine || f != first {
		t.Error("two make it")
	}
	s.setResults(step, make([]Result, 1))
	s.land(step.ID(), first)
	f, mine := s.board(step.ID())
	if mine || len(f.results) != 1 || f.err != nil {
		t.Fatalf("it is made again: %+v", f)
	}
	<-f.done
}
