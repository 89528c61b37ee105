package source

import "errors"

// IsFailure reports whether another machine failed, or the way to it.
func IsFailure(err error) bool {
	var down *UnreachableError
	var status *StatusError
	var git *GitError
	var missing *GitMissingError
	return errors.As(err, &down) || errors.As(err, &status) || errors.As(err, &git) || errors.As(err, &missing)
}

// IsMistake reports whether a source does not hold what it was said to hold.
func IsMistake(err error) bool {
	return errors.As(err, new(*NoRefError)) || errors.As(err, new(*GitChecksumError)) ||
		errors.As(err, new(*SubdirError)) || errors.As(err, new(*ChecksumError))
}
