package planner

import (
	"strings"

	"layered.build/builder/parser"
)

// isGit reports whether a source can only be a git repository. What begins with
// github.com/ is a path of the context, as in BuildKit's ADD.
func isGit(src string) bool {
	_, ok, _ := parser.ParseGit(src)
	return ok
}

// isURL reports whether a source is a file that is downloaded.
func isURL(src string) bool {
	return (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) && !isGit(src)
}
