// Package routing knows where the repositories of registries are found: at mirrors, at
// another location, or where their names say, and over what kind of connection.
package routing

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/reference"
)

// Endpoint is one place where a repository may be found.
type Endpoint struct {
	// Host is host[:port], Repo the repository's path there.
	Host, Repo string
	// Schemes are tried in order.
	Schemes []string
	// SkipVerify accepts any certificate.
	SkipVerify bool
	// Mirror says that another place is the origin.
	Mirror bool
}

// Table knows where the repositories of registries are found.
type Table struct {
	mirrors  map[string][]config.Mirror // by domain (docker.io)
	insecure []string
	verify   *bool // of all; nil: as the rest says
	rules    []config.Rule
}

// mirrorEnv is the variable with a comma-separated list of mirrors.
const mirrorEnv = "BUILDER_REGISTRY_MIRROR"

// New takes mirrors ("REGISTRY=URL") and insecure registries (host[:port] or CIDR) from
// the caller, then from the environment, then from the configuration: in this order
// mirrors are tried. If verify is not nil it says of all hosts whether their certificates
// are verified, and http is refused but where the caller asks for it by name. Errors match
// errdef.ErrInvalid.
func New(mirrors, insecure []string, verify *bool, cfg *config.Config) (*Table, error) {
	r := &Table{mirrors: map[string][]config.Mirror{}, insecure: slices.Clone(insecure), verify: verify, rules: cfg.Rules}
	lines := slices.Clone(mirrors)
	for line := range strings.SplitSeq(os.Getenv(mirrorEnv), ",") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		domain, target, ok := strings.Cut(line, "=")
		if !ok || domain == "" {
			return nil, fmt.Errorf("registry mirror %q: %w: want REGISTRY=URL, as in docker.io=http://127.0.0.1:5000", line, errdef.ErrInvalid)
		}
		m, err := config.ParseMirror(target)
		if err != nil {
			return nil, fmt.Errorf("registry mirror for %s: %w", domain, err)
		}
		r.addMirrors(domain, m)
	}
	for _, reg := range cfg.Registries {
		r.addMirrors(reg.Domain, reg.Mirrors...)
		if reg.Insecure {
			r.insecure = append(r.insecure, reg.Domain)
		}
	}
	return r, nil
}

func (r *Table) addMirrors(domain string, mirrors ...config.Mirror) {
	domain = normalDomain(domain)
	r.mirrors[domain] = append(r.mirrors[domain], mirrors...)
}

// normalDomain maps the names that Docker Hub goes by to the one in references.
func normalDomain(d string) string {
	d = strings.TrimSuffix(strings.ToLower(d), "/")
	if d == "index.docker.io" || d == "registry-1.docker.io" {
		return "docker.io"
	}
	return d
}

// Pull returns where to look for a reference: mirrors first, the origin last. Errors
// are those of Push.
func (r *Table) Pull(ref reference.Reference) ([]Endpoint, error) {
	var eps []Endpoint
	for _, m := range r.mirrors[ref.Domain] {
		eps = append(eps, r.mirrorEndpoint(m, ref.Path))
	}
	origin, err := r.Push(ref)
	if err != nil {
		return nil, err
	}
	if rule, rest := r.match(ref); rule != nil {
		for _, m := range rule.Mirrors {
			if m.PullBy == "digest-only" && ref.Digest == "" || m.PullBy == "tag-only" && ref.Digest != "" {
				continue
			}
			eps = append(eps, r.mirrorEndpoint(m, rest))
		}
	}
	return append(eps, origin), nil
}

// Push returns the origin of a reference. The error matches errdef.ErrRefused if the
// configuration blocks it.
func (r *Table) Push(ref reference.Reference) (Endpoint, error) {
	rule, rest := r.match(ref)
	if rule == nil {
		return r.endpoint("", ref.Domain, ref.Path, false), nil
	}
	if rule.Blocked {
		return Endpoint{}, &errdef.Error{Kind: errdef.ErrRefused, Op: "use registry", Object: ref.Repository(), Err: fmt.Errorf("%s blocks it", rule.File)}
	}
	if rule.Location.Host == "" {
		return r.endpoint("", ref.Domain, ref.Path, rule.Insecure), nil
	}
	return r.endpoint("", rule.Location.Host, joinPath(rule.Location.Prefix, rest), rule.Insecure), nil
}

// URL returns the host of a layer that its registry must not distribute, from where its
// descriptor says. Errors match errdef.ErrInvalid.
func (r *Table) URL(where string) (Endpoint, error) {
	u, err := url.Parse(where)
	if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && slices.Contains(r.endpoint("", u.Host, "", false).Schemes, "http")) {
		return Endpoint{}, fmt.Errorf("foreign layer at %q: %w: not a https URL", config.RedactUserinfo(where), errdef.ErrInvalid)
	}
	return r.endpoint(u.Scheme, u.Host, "", false), nil
}

func (r *Table) mirrorEndpoint(m config.Mirror, path string) Endpoint {
	ep := r.endpoint(m.Scheme, m.Host, joinPath(m.Prefix, path), m.Insecure)
	ep.Mirror = true
	return ep
}

func joinPath(prefix, path string) string {
	if prefix == "" || path == "" {
		return prefix + path
	}
	return prefix + "/" + path
}

func (r *Table) endpoint(scheme, host, repo string, insecure bool) Endpoint {
	ep := Endpoint{Host: hubHost(host), Repo: repo, Schemes: []string{"https"}}
	insecure = insecure || r.isInsecure(host)
	mayHTTP := insecure || isLoopback(host)
	if r.verify != nil {
		insecure, mayHTTP = !*r.verify, !*r.verify
	}
	switch {
	case scheme != "":
		ep.Schemes = []string{scheme}
	case mayHTTP:
		ep.Schemes = []string{"https", "http"}
	}
	ep.SkipVerify = insecure
	return ep
}

// hubHost returns the host that serves Docker Hub's API.
func hubHost(host string) string {
	if normalDomain(host) == "docker.io" {
		return "index.docker.io"
	}
	return host
}

// isInsecure matches host[:port] as docker's insecure-registries do: by name, or
// an address by CIDR.
func (r *Table) isInsecure(host string) bool {
	name, ip := SplitHost(host)
	for _, entry := range r.insecure {
		entry = strings.TrimPrefix(strings.TrimPrefix(entry, "https://"), "http://")
		entry = strings.TrimSuffix(entry, "/")
		if entry == host || entry == name {
			return true
		}
		if _, block, err := net.ParseCIDR(entry); err == nil && ip != nil && block.Contains(ip) {
			return true
		}
	}
	return false
}

func isLoopback(host string) bool {
	name, ip := SplitHost(host)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// SplitHost returns the name of host[:port], and the address that it is, nil if it is
// none.
func SplitHost(host string) (string, net.IP) {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	return name, net.ParseIP(name)
}

// match returns the rule with the longest prefix, and what of the repository stands
// behind the prefix.
func (r *Table) match(ref reference.Reference) (*config.Rule, string) {
	var best *config.Rule
	var rest string
	for i := range r.rules {
		rule := &r.rules[i]
		if best != nil && len(rule.Prefix) <= len(best.Prefix) {
			continue
		}
		if behind, ok := behindPrefix(rule.Prefix, ref); ok {
			best, rest = rule, behind
		}
	}
	return best, rest
}

// behindPrefix returns what of a repository stands behind a prefix, false if it does not
// begin with it.
func behindPrefix(prefix string, ref reference.Reference) (string, bool) {
	if suffix, ok := strings.CutPrefix(prefix, "*"); ok {
		return ref.Path, strings.HasSuffix(ref.Domain, suffix)
	}
	rest, ok := strings.CutPrefix(ref.Repository(), prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}
