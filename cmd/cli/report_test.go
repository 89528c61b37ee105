package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"layered.build/builder/executor"
	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
)

func TestExitCodes(t *testing.T) {
	exec := &dag.Step{Op: &dag.Exec{}}
	file := &dag.Step{Op: &dag.File{}}
	image := &dag.Step{Op: &dag.Source{Image: &dag.ImageSource{}}}
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{usagef("x"), 2},
		{&parser.Error{Msg: "x"}, 2},
		{fmt.Errorf("wrapped: %w", &parser.Error{Msg: "x"}), 2},
		{&parser.Error{Msg: "x", Err: &registry.Error{Kind: registry.ErrUnreachable}}, 3},
		{&parser.Error{Msg: "x", Err: &registry.Error{Kind: registry.ErrNotFound}}, 2},
		{&registry.Error{Kind: registry.ErrUnauthorized}, 3},
		{&executor.StepError{Step: exec, ExitCode: 5, Err: errors.New("x")}, 1},
		{&executor.StepError{Step: exec, OOM: true, Err: errors.New("x")}, 1},
		{&executor.StepError{Step: file, Err: fs.ErrNotExist}, 2},
		{&executor.StepError{Step: file, Err: syscall.ENOSPC}, 3},
		{&executor.StepError{Step: image, Err: errors.New("x")}, 3},
		{fmt.Errorf("x: %w", signalError{syscall.SIGINT}), 130},
		{signalError{syscall.SIGTERM}, 143},
		{asRunError(errors.New("x")), 125},
		{asRunError(signalError{syscall.SIGINT}), 130},
		{&exitError{code: 42}, 42},
		{errors.New("disk"), 3},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%#v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReport(t *testing.T) {
	src := []byte("FROM a\nRUN false\nCMD x\n")
	step := &dag.Step{Op: &dag.Exec{}, Meta: dag.Meta{
		Name: "[2/2] RUN false", Locations: []dag.Location{{File: "Dockerfile", Start: 2, End: 2}},
	}}
	err := &sourceError{
		err: &executor.StepError{
			Step: step, ExitCode: 1, LogTail: []byte("one\n10%\r99%\n"), LogPath: "/logs/x",
			Err: errors.New(`process "/bin/sh -c false" did not complete successfully: exit code: 1`),
		},
		file: &parser.File{Name: "Dockerfile", Source: src}, before: "0123456789ab",
	}
	var got bytes.Buffer
	report(&got, err)
	want := `------
 > [2/2] RUN false:
one
99%
------
Dockerfile:2:1-9
--------------------
   1 |     FROM a
   2 | >>> RUN false
   3 |     CMD x
--------------------
ERROR: failed to build: process "/bin/sh -c false" did not complete successfully: exit code: 1
hint: the full log is in /logs/x
hint: to try the step by hand: builder run --rm -it 0123456789ab sh
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	got.Reset()
	report(&got, fmt.Errorf("write layer: %w", syscall.ENOSPC))
	if !strings.Contains(got.String(), "the disk is full") {
		t.Errorf("no hint about the disk: %s", got.String())
	}
}

func TestPanicIsABug(t *testing.T) {
	var errs bytes.Buffer
	code := Main(panicking{t.Context()}, []string{"version"}, Program{Streams: Streams{Out: &errs, Err: &errs}})
	if code != ExitBug || strings.Contains(errs.String(), "goroutine") || !strings.Contains(errs.String(), "bug") {
		t.Errorf("exit code %d, output %s", code, errs.String())
	}
}

// panicking is a context that panics when it is used.
type panicking struct{ context.Context }

func (panicking) Done() <-chan struct{} { panic("boom") }
