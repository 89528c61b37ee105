package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/moby/sys/user"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor"
	"layered.build/builder/executor/source"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot/folder"
)

// The exit codes of the program. `builder run` gives its process's code instead,
// and ExitRun for errors of its own.
const (
	ExitOK    = 0
	ExitBuild = 1   // a build step failed
	ExitUser  = 2   // flags, Dockerfile, context, or a file or store that was named are wrong
	ExitInfra = 3   // registry, network, disk, permissions
	ExitBug   = 70  // a bug in builder
	ExitRun   = 125 // builder run could not start the process
)

// exitError carries the exit code of a process that `builder run` started, or
// of an error of its own.
type exitError struct {
	code int
	err  error // nil: nothing to report
}

// Error implements error.
func (e *exitError) Error() string {
	if e.err != nil {
		return e.err.Error()
	}
	return fmt.Sprintf("exit code: %d", e.code)
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

// exitCode says which code an error ends the program with.
func exitCode(err error) int {
	var (
		exit  *exitError
		sig   signalError
		usage *mistake.Error
		step  *executor.StepError
		file  *parser.Error
		late  *executor.TimeoutError
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &sig):
		return 128 + int(sig.sig)
	case errors.As(err, &exit):
		return exit.code
	case isInfra(err):
		return ExitInfra
	case errors.As(err, &late):
		return ExitBuild
	case errors.As(err, &usage), errors.As(err, &file), source.IsMistake(err):
		return ExitUser
	case errors.As(err, &step):
		return stepCode(step)
	case errors.Is(err, registry.ErrNotFound), errors.Is(err, registry.ErrInvalid), errors.Is(err, registry.ErrAmbiguous), errors.Is(err, folder.ErrNotStore), errors.Is(err, folder.ErrOwners), errors.Is(err, folder.ErrBusy):
		return ExitUser
	}
	return ExitInfra
}

// isInfra reports whether the machine or the network failed, whatever was being
// done.
func isInfra(err error) bool {
	if source.IsFailure(err) {
		return true
	}
	for _, target := range []error{
		registry.ErrUnreachable, registry.ErrUnauthorized, registry.ErrRefused, registry.ErrBadDigest, engine.ErrNoRoom,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.EMFILE, syscall.ENFILE,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// withoutCwd explains an error that comes of a working directory that was deleted: only
// what looks for something there needs one.
func withoutCwd(err error) error {
	var step *executor.StepError
	if !errors.Is(err, fs.ErrNotExist) || errors.As(err, &step) {
		return err
	}
	if _, cwdErr := os.Getwd(); cwdErr == nil {
		return err
	}
	const hint = "cd to one that exists, or give absolute paths"
	var call *os.SyscallError
	if errors.As(err, &call) && call.Syscall == "getwd" {
		return mistake.New("the working directory was deleted").WithHint(hint)
	}
	return &mistake.Advised{Err: err, Hint: "the working directory was deleted: " + hint}
}

// stepCode tells a step that failed from a mistake in what it was asked to do.
func stepCode(e *executor.StepError) int {
	var leak *executor.LeakError
	var found *executor.FindingError
	switch {
	case e.ExitCode != 0 || e.OOM || errors.As(e, &leak):
		return ExitBuild
	case errors.As(e, &found): // as if the plan had told
		return ExitUser
	}
	switch op := e.Step.Op.(type) {
	case *dag.Exec: // no process ran
		for _, mistake := range []error{fs.ErrNotExist, fs.ErrInvalid, executor.ErrNotAllowed, user.ErrNoPasswdEntries, user.ErrNoGroupEntries} {
			if errors.Is(e, mistake) { // a mount's source, a secret, a permission, a USER
				return ExitUser
			}
		}
		return ExitInfra
	case *dag.Source:
		if op.Local != nil || errors.Is(e, registry.ErrNotFound) {
			return ExitUser
		}
		return ExitInfra
	}
	switch {
	case errors.Is(e, fs.ErrNotExist):
		return ExitUser
	case errors.Is(e, fs.ErrPermission):
		return ExitInfra
	}
	return ExitBuild
}
