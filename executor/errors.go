package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"layered.build/builder/planner/dag"
)

// StepError says that a step failed. Its text is the cause's; Step.Meta says
// which lines of which file asked for it.
type StepError struct {
	Step *dag.Step
	Err  error
	// ExitCode is that of the process, 0 if no process ran.
	ExitCode int
	// OOM says that a process was killed for the step's memory limit.
	OOM bool
	// Usage is what the step's processes used, nil if none ran.
	Usage *Usage
	// LogTail is the end of what the process wrote (both streams), whole lines.
	LogTail []byte
	// LogPath is a file with all that it wrote; "" if there is none.
	LogPath string
}

// Error implements error.
func (e *StepError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StepError) Unwrap() error { return e.Err }

// TimeoutError says that a step, or the build, took longer than it may.
type TimeoutError struct {
	After time.Duration
	// What was ended: `process "make"`, "the build".
	What string
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s was ended after %s, its time limit", e.What, e.After)
}

// ErrNotAllowed says that a step asks for a permission that nobody granted. Which, says
// NotAllowedError.
var ErrNotAllowed = errors.New("not allowed")

// NotAllowedError says that a step needs a permission that nobody granted. It matches
// ErrNotAllowed.
type NotAllowedError struct{ Permission dag.Permission }

// Error implements error.
func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("entitlement %s is not allowed", e.Permission)
}

// Is implements the interface of errors.Is.
func (e *NotAllowedError) Is(target error) bool { return target == ErrNotAllowed }

// MissingError says that a path that a step reads does not exist. It matches
// fs.ErrNotExist.
type MissingError struct {
	// Path is relative to the root of what is read.
	Path string
	// Pattern is the ignore pattern that hides the path, which does exist; ""
	// if it does not.
	Pattern string
	// Glob is the wildcard that begins in Path; "" if Path itself is read. Empty says
	// that Path exists, but nothing in it that is read; Hidden is a file that would
	// match, but for Pattern, "" if there is none.
	Glob   string
	Empty  bool
	Hidden string
	// Near is a path that exists and may have been meant; "" if there is none.
	Near string
	// Link says that Path is a symlink, and Target what it leads to, which does
	// not exist.
	Link   bool
	Target string
}

// Error implements error.
func (e *MissingError) Error() string {
	if e.Empty {
		text := fmt.Sprintf("%q: not found: nothing in it matches %q", "/"+e.Path, "/"+e.Glob)
		if e.Hidden != "" {
			text += fmt.Sprintf(", and %q is excluded by the ignore pattern %q", "/"+e.Hidden, e.Pattern)
		}
		return text
	}
	if e.Pattern != "" {
		return fmt.Sprintf("%q: not found: it is excluded by the ignore pattern %q", "/"+e.Path, e.Pattern)
	}
	if e.Link {
		return fmt.Sprintf("%q: not found: it is a symlink to %q, which is not there", "/"+e.Path, "/"+e.Target)
	}
	return fmt.Sprintf("%q: not found", "/"+e.Path)
}

// Is implements the interface of errors.Is.
func (e *MissingError) Is(target error) bool { return target == fs.ErrNotExist }

// MissingSecretError says that a step requires a secret that the build was not
// given. It matches fs.ErrNotExist.
type MissingSecretError struct{ ID string }

// Error implements error.
func (e *MissingSecretError) Error() string { return "secret " + e.ID + ": not found" }

// Is implements the interface of errors.Is.
func (e *MissingSecretError) Is(target error) bool { return target == fs.ErrNotExist }

// MissingAgentError says that a step requires an ssh agent that the build was not
// given. It matches fs.ErrNotExist.
type MissingAgentError struct{ ID string }

// Error implements error.
func (e *MissingAgentError) Error() string { return "ssh agent " + e.ID + ": not found" }

// Is implements the interface of errors.Is.
func (e *MissingAgentError) Is(target error) bool { return target == fs.ErrNotExist }
