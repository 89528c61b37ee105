// Package imageref reads image names as docker does. It accepts exactly what
// github.com/distribution/reference accepts, which its tests compare it with, but needs
// none of the regular expressions that that package compiles whenever a program starts.
package imageref

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Defaults that docker fills in.
const (
	defaultDomain  = "docker.io"
	legacyDomain   = "index.docker.io"
	officialPrefix = "library/"
)

const (
	maxPath = 255
	maxTag  = 128
)

// Name is an image name in its full form.
type Name struct {
	// Domain is the registry, with a port if there is one. It is "" where the text
	// before the first slash can only be part of the path.
	Domain string
	// Path is the repository within the registry.
	Path string
	// Tag and Digest are "" unless the text has them.
	Tag    string
	Digest digest.Digest
}

var (
	errFormat    = errors.New("invalid reference format")
	errUppercase = errors.New("repository name must be lowercase")
	errTooLong   = fmt.Errorf("repository name must not be more than %d characters", maxPath)
)

// Parse reads an image name, [DOMAIN[:PORT]/]PATH[:TAG][@DIGEST], and gives it docker's
// defaults: "alpine" is library/alpine of docker.io. No tag is added.
func Parse(s string) (Name, error) {
	if len(s) == 64 && all(s, isLowerHex) {
		return Name{}, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	domain, rest := splitDomain(s)
	if remote, _, _ := strings.Cut(rest, ":"); strings.ToLower(remote) != remote {
		return Name{}, fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", remote)
	}
	n, ok := parse(domain, rest)
	if !ok {
		if _, ok := parse(strings.ToLower(domain), strings.ToLower(rest)); ok {
			return Name{}, errUppercase
		}
		return Name{}, errFormat
	}
	if len(n.Path) > maxPath {
		return Name{}, errTooLong
	}
	if n.Digest != "" {
		if err := n.Digest.Validate(); err != nil {
			return Name{}, err
		}
	}
	return n, nil
}

// splitDomain finds out whether the text before the first slash is a registry.
func splitDomain(s string) (domain, rest string) {
	first, rest, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return defaultDomain, officialPrefix + s
	case first == "localhost":
		return first, rest
	case first == legacyDomain:
		domain = defaultDomain
	case strings.ContainsAny(first, ".:"), strings.ToLower(first) != first:
		domain = first
	default:
		domain, rest = defaultDomain, s
	}
	if domain == defaultDomain && !strings.Contains(rest, "/") {
		rest = officialPrefix + rest
	}
	return domain, rest
}

func parse(domain, rest string) (n Name, ok bool) {
	rest, sum, hasDigest := strings.Cut(rest, "@")
	path, tag, hasTag := strings.Cut(rest, ":")
	if hasDigest && !isDigest(sum) || hasTag && !isTag(tag) {
		return n, false
	}
	if !isDomain(domain) {
		domain, path = "", domain+"/"+path
	}
	for c := range strings.SplitSeq(path, "/") {
		if !isComponent(c) {
			return n, false
		}
	}
	return Name{Domain: domain, Path: path, Tag: tag, Digest: digest.Digest(sum)}, true
}

// Familiar returns the short form of a repository that docker prints: alpine.
func Familiar(domain, path string) string {
	if domain != defaultDomain {
		if domain == "" {
			return path
		}
		return domain + "/" + path
	}
	if short, ok := strings.CutPrefix(path, officialPrefix); ok && !strings.Contains(short, "/") {
		return short
	}
	return path
}

// isDomain recognizes a host name, or an IPv6 address in brackets, and a port.
func isDomain(s string) bool {
	host, port, hasPort := s, "", false
	if inner, ok := strings.CutPrefix(s, "["); ok {
		var end bool
		if inner, port, end = strings.Cut(inner, "]"); !end || inner == "" || !all(inner, isAddress) {
			return false
		}
		if port == "" {
			return true
		}
		port, hasPort = strings.CutPrefix(port, ":")
		return hasPort && port != "" && all(port, isDigit)
	}
	host, port, hasPort = strings.Cut(s, ":")
	if hasPort && (port == "" || !all(port, isDigit)) {
		return false
	}
	for c := range strings.SplitSeq(host, ".") {
		if c == "" || c[0] == '-' || c[len(c)-1] == '-' || !all(c, isLabel) {
			return false
		}
	}
	return true
}

// isComponent recognizes a part of a path: lower-case letters and digits, with one dot,
// one or two underscores or any number of dashes between them.
func isComponent(s string) bool {
	if s == "" || !isLower(s[0]) || !isLower(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if isLower(s[i]) {
			continue
		}
		begin := i
		for !isLower(s[i+1]) { // the last one is
			i++
		}
		switch sep := s[begin : i+1]; {
		case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		default:
			return false
		}
	}
	return true
}

func isTag(s string) bool {
	return s != "" && len(s) <= maxTag && s[0] != '.' && s[0] != '-' &&
		all(s, func(c byte) bool { return isAlnum(c) || c == '_' || c == '.' || c == '-' })
}

// isDigest recognizes algorithm:hex, where the algorithm is one or more words that begin
// with a letter.
func isDigest(s string) bool {
	algorithm, sum, ok := strings.Cut(s, ":")
	if !ok || len(sum) < 32 || !all(sum, isHex) {
		return false
	}
	word := true // whether one begins here
	for i := range len(algorithm) {
		c := algorithm[i]
		switch {
		case word && !isLetter(c):
			return false
		case isAlnum(c):
			word = false
		case strings.IndexByte("-_+.", c) < 0:
			return false
		default:
			word = true
		}
	}
	return !word
}

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isAlnum(c byte) bool  { return isDigit(c) || isLetter(c) }
func isLower(c byte) bool  { return isDigit(c) || c >= 'a' && c <= 'z' }
func isLabel(c byte) bool  { return isAlnum(c) || c == '-' }

func isLowerHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' }
func isHex(c byte) bool      { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
func isAddress(c byte) bool  { return isHex(c) || c == ':' }
