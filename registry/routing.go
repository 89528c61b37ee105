package registry

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"layered.build/builder/registry/config"
)

// endpoint is one place where a repository may be found.
type endpoint struct {
	// host is host[:port]; repo the repository's path there.
	host, repo string
	// schemes are tried in order.
	schemes []string
	// skipVerify accepts any certificate.
	skipVerify bool
	// mirror says that another place is the origin.
	mirror bool
}

// routing knows where the repositories of registries are found.
type routing struct {
	mirrors  map[string][]config.Mirror // by domain (docker.io)
	insecure []string
	rules    []config.Rule
}

// mirrorEnv is the variable with a comma-separated list of mirrors.
const mirrorEnv = "BUILDER_REGISTRY_MIRROR"

// newRouting takes mirrors ("REGISTRY=URL") and insecure registries from the caller,
// then from the environment, then from the configuration: in this order mirrors are
// tried.
func newRouting(mirrors, insecure []string, cfg *config.Config) (*routing, error) {
	r := &routing{mirrors: map[string][]config.Mirror{}, insecure: slices.Clone(insecure), rules: cfg.Rules}
	lines := slices.Clone(mirrors)
	for line := range strings.SplitSeq(os.Getenv(mirrorEnv), ",") {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		domain, target, ok := strings.Cut(line, "=")
		if !ok || domain == "" {
			return nil, fmt.Errorf("registry mirror %q: %w: want REGISTRY=URL, as in docker.io=http://127.0.0.1:5000", line, ErrInvalid)
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

func (r *routing) addMirrors(domain string, mirrors ...config.Mirror) {
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

// pull returns where to look for a reference: mirrors first, the origin last.
func (r *routing) pull(ref Reference) ([]endpoint, error) {
	var eps []endpoint
	for _, m := range r.mirrors[ref.Domain] {
		eps = append(eps, r.mirrorEndpoint(m, ref.Path))
	}
	origin, err := r.push(ref)
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

// push returns the origin of a reference.
func (r *routing) push(ref Reference) (endpoint, error) {
	rule, rest := r.match(ref)
	if rule == nil {
		return r.endpoint("", ref.Domain, ref.Path, false), nil
	}
	if rule.Blocked {
		return endpoint{}, &Error{Kind: ErrRefused, Op: "use registry", Object: ref.Repository(), Err: fmt.Errorf("%s blocks it", rule.File)}
	}
	if rule.Location.Host == "" {
		return r.endpoint("", ref.Domain, ref.Path, rule.Insecure), nil
	}
	return r.endpoint("", rule.Location.Host, joinPath(rule.Location.Prefix, rest), rule.Insecure), nil
}

func (r *routing) mirrorEndpoint(m config.Mirror, path string) endpoint {
	ep := r.endpoint(m.Scheme, m.Host, joinPath(m.Prefix, path), m.Insecure)
	ep.mirror = true
	return ep
}

func joinPath(prefix, path string) string {
	if prefix == "" || path == "" {
		return prefix + path
	}
	return prefix + "/" + path
}

func (r *routing) endpoint(scheme, host, repo string, insecure bool) endpoint {
	ep := endpoint{host: hubHost(host), repo: repo, schemes: []string{"https"}}
	insecure = insecure || r.isInsecure(host)
	switch {
	case scheme != "":
		ep.schemes = []string{scheme}
	case insecure || isLoopback(host):
		ep.schemes = []string{"https", "http"}
	}
	ep.skipVerify = insecure
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
func (r *routing) isInsecure(host string) bool {
	name, ip := splitHost(host)
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
	name, ip := splitHost(host)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func splitHost(host string) (string, net.IP) {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	return name, net.ParseIP(name)
}

// match returns the rule with the longest prefix, and what of the repository stands
// behind the prefix.
func (r *routing) match(ref Reference) (*config.Rule, string) {
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
func behindPrefix(prefix string, ref Reference) (string, bool) {
	if suffix, ok := strings.CutPrefix(prefix, "*"); ok {
		return ref.Path, strings.HasSuffix(ref.Domain, suffix)
	}
	rest, ok := strings.CutPrefix(ref.Repository(), prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}
