package planner

import (
	"net/url"
	"regexp"
	"strings"
	"sync"
)

// scpLike is user@host:path, as BuildKit reads it (util/sshutil).
var scpLike = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9-_]+@[a-zA-Z0-9-.]+:`)
})

// isGit reports whether a source can only be a git repository: git:// and
// ssh://, user@host:path, and http URLs whose path ends with ".git". What begins
// with github.com/ is a path of the context, as in BuildKit's ADD.
func isGit(src string) bool {
	proto, _, ok := strings.Cut(src, "://")
	if !ok {
		return scpLike().MatchString(src)
	}
	switch strings.ToLower(proto) {
	case "git", "ssh":
		return true
	case "http", "https":
		u, err := url.Parse(src)
		return err == nil && strings.HasSuffix(u.Path, ".git")
	}
	return false
}

// isURL reports whether a source is a file that is downloaded.
func isURL(src string) bool {
	return (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) && !isGit(src)
}
