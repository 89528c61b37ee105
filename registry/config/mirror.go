package config

import (
	"fmt"
	"net/url"
	"strings"

	"layered.build/builder/registry/errdef"
)

// Mirror is a place that holds copies of (part of) another registry.
type Mirror struct {
	// Scheme is http, https, or "" where none was given; Host is host[:port].
	Scheme, Host string
	// Prefix is the path below which the repositories are.
	Prefix string
	// Insecure allows http and any certificate.
	Insecure bool
	// PullBy is "", "digest-only" or "tag-only" (registries.conf).
	PullBy string
}

// ParseMirror reads "http://host:port/prefix"; the scheme may be missing. Errors match
// errdef.ErrInvalid and contain no password.
func ParseMirror(s string) (Mirror, error) {
	raw := s
	if !strings.Contains(s, "://") {
		s = "//" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return Mirror{}, fmt.Errorf("%q: %w: not a URL of a registry", RedactUserinfo(raw), errdef.ErrInvalid)
	}
	if u.User != nil {
		return Mirror{}, fmt.Errorf("%q: %w: credentials belong into docker's config.json", RedactUserinfo(raw), errdef.ErrInvalid)
	}
	if u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return Mirror{}, fmt.Errorf("%q: %w: the scheme must be http or https", raw, errdef.ErrInvalid)
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix == "v2" {
		prefix = ""
	}
	return Mirror{Scheme: u.Scheme, Host: u.Host, Prefix: prefix}, nil
}

// RedactUserinfo hides what stands before the host of a URL, however malformed that is.
func RedactUserinfo(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "…@" + s[i+1:]
	}
	return s
}
