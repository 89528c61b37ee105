// Package mistake has the errors that are for the one who uses the program: what they
// did wrong, and what to do about it. Every other package may import it.
package mistake

import (
	"errors"
	"fmt"
)

// Error is a user's mistake: in flags, files or names that they gave.
type Error struct {
	// Hint says what to do, "" if nothing is known.
	Hint string

	msg string
	err error
}

// New makes an Error; a %w in the format is kept as the cause.
func New(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{msg: err.Error(), err: errors.Unwrap(err)}
}

// Unsupported refuses a flag or value that other builders have and this one has not. The
// hint says what to use instead.
func Unsupported(what, hint string) *Error {
	return New("%s is not supported yet", what).WithHint("%s", hint)
}

// Error implements error.
func (e *Error) Error() string { return e.msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// WithHint sets what to do, and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithCause sets what errors.Is and errors.As find behind the message, and returns e.
func (e *Error) WithCause(err error) *Error {
	e.err = err
	return e
}

// Advised is an error that is nobody's mistake, with what to do about it.
type Advised struct {
	Err  error
	Hint string
}

// Error implements error.
func (a *Advised) Error() string { return a.Err.Error() }

// Unwrap returns the error.
func (a *Advised) Unwrap() error { return a.Err }
