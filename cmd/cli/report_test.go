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

	"layered.build/builder/cmd/build"
	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot/folder"
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
		{mistake.New("x"), 2},
		{fmt.Errorf("open: %w", folder.ErrOwners), 2},
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
	err := &build.Error{
		Err: &executor.StepError{
			Step: step, ExitCode: 1, LogTail: []byte("one\n10%\r99%\n"), LogPath: "/logs/x",
			Err: errors.New(`process "/bin/sh -c false" did not complete successfully: exit code: 1`),
		},
		File: &parser.File{Name: "Dockerfile", Source: src}, Before: "0123456789ab",
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

// TestReportUser: a user that the image does not know is shown where USER names it,
// and only if that is in the step's own stage.
func TestReportUser(t *testing.T) {
	for _, c := range []struct{ dockerfile, want string }{
		{"FROM a\nUSER first\nUSER ghost:other\nRUN x\nUSER later\n", "Dockerfile:3:6-16\n"},
		{"FROM a AS b\nUSER ghost\nFROM b\nRUN x\n", "Dockerfile:4:1-5\n"},
	} {
		file, err := parser.Parse("Dockerfile", []byte(c.dockerfile))
		if err != nil {
			t.Fatal(err)
		}
		name := "ghost"
		if strings.Contains(c.dockerfile, "ghost:other") {
			name = "ghost:other"
		}
		step := &dag.Step{Op: &dag.Exec{}, Meta: dag.Meta{Name: "[2/2] RUN x", Locations: []dag.Location{{File: "Dockerfile", Start: 4, End: 4}}}}
		var got bytes.Buffer
		report(&got, &build.Error{File: file, Err: &executor.StepError{Step: step, Err: &sandbox.UserError{User: name, Err: errors.New("no matching entries")}}})
		if !strings.Contains(got.String(), c.want) || !strings.Contains(got.String(), "hint: [2/2] RUN x in line 4 runs as that user") {
			t.Errorf("%q: got\n%s", c.dockerfile, got.String())
		}
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

// What a shared cache or a server says does not reach the terminal as it is.
func TestFindingsArePrintable(t *testing.T) {
	var f findings
	f.observe(executor.Event{
		Rule: "Rule\x1b[2J", Data: []byte("first\nsecond \x1b]0;title\x07\u009b1mend"),
		Step: &dag.Step{Op: &dag.Exec{}, Meta: dag.Meta{Locations: []dag.Location{{File: "Dockerfile", Start: 2, End: 2}}}},
	})
	var b bytes.Buffer
	printWarnings(&b, f.list(), nil, false)
	if got := b.String(); strings.ContainsAny(got, "\x1b\x07\u009b") || !strings.Contains(got, " - Rule: first second ") {
		t.Errorf("%q", got)
	}
}
