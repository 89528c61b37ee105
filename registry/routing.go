package registry

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	// opening, if set, is what a new session will be asked first.
	opening *opening
}

// mirror is a place that holds copies of (part of) another registry.
type mirror struct {
	// scheme is "" where none was given.
	scheme, host string
	// prefix is the path below which the repositories are.
	prefix   string
	insecure bool
	// pullBy is "", "digest-only" or "tag-only" (registries.conf).
	pullBy string
}

// routing knows where the repositories of registries are found.
type routing struct {
	mirrors  map[string][]mirror // by domain (docker.io)
	insecure []string
	conf     registriesConf
}

// mirrorEnv is the variable with a comma-separated list of mirrors.
const mirrorEnv = "BUILDER_REGISTRY_MIRROR"

// newRouting reads options, environment and configuration files, in the order of
// their precedence.
func newRouting(opts Options, files configFiles) (*routing, error) {
	r := &routing{mirrors: map[string][]mirror{}, insecure: slices.Clone(opts.Insecure)}
	lines := slices.Clone(opts.Mirrors)
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
		if err := r.addMirror(domain, target); err != nil {
			return nil, err
		}
	}
	for _, path := range files.builder {
		if err := r.readConfig(path); err != nil {
			return nil, err
		}
	}
	var err error
	r.conf, err = readRegistriesConf(files.containers, files.dropIns)
	return r, err
}

func (r *routing) addMirror(domain, target string) error {
	m, err := parseMirror(target)
	if err != nil {
		return fmt.Errorf("registry mirror for %s: %w", domain, err)
	}
	domain = normalDomain(domain)
	r.mirrors[domain] = append(r.mirrors[domain], m)
	return nil
}

// normalDomain maps the names that Docker Hub goes by to the one in references.
func normalDomain(d string) string {
	d = strings.TrimSuffix(strings.ToLower(d), "/")
	if d == "index.docker.io" || d == "registry-1.docker.io" {
		return "docker.io"
	}
	return d
}

// parseMirror reads "http://host:port/prefix"; the scheme may be missing.
func parseMirror(s string) (mirror, error) {
	raw := s
	if !strings.Contains(s, "://") {
		s = "//" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return mirror{}, fmt.Errorf("%q: %w: not a URL of a registry", redactUserinfo(raw), ErrInvalid)
	}
	if u.User != nil {
		return mirror{}, fmt.Errorf("%q: %w: credentials belong into docker's config.json", redactUserinfo(raw), ErrInvalid)
	}
	if u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		return mirror{}, fmt.Errorf("%q: %w: the scheme must be http or https", raw, ErrInvalid)
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix == "v2" {
		prefix = ""
	}
	return mirror{scheme: u.Scheme, host: u.Host, prefix: prefix}, nil
}

func redactUserinfo(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "…@" + s[i+1:]
	}
	return s
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
	if rule, rest := r.conf.match(ref); rule != nil {
		for _, m := range rule.mirrors {
			if m.pullBy == "digest-only" && ref.Digest == "" || m.pullBy == "tag-only" && ref.Digest != "" {
				continue
			}
			eps = append(eps, r.mirrorEndpoint(m, rest))
		}
	}
	return append(eps, origin), nil
}

// push returns the origin of a reference.
func (r *routing) push(ref Reference) (endpoint, error) {
	rule, rest := r.conf.match(ref)
	if rule == nil {
		return r.endpoint("", ref.Domain, ref.Path, false), nil
	}
	if rule.blocked {
		return endpoint{}, &Error{Kind: ErrRefused, Op: "use registry", Object: ref.Repository(), Err: fmt.Errorf("%s blocks it", rule.file)}
	}
	if rule.location.host == "" {
		return r.endpoint("", ref.Domain, ref.Path, rule.insecure), nil
	}
	return r.endpoint("", rule.location.host, joinPath(rule.location.prefix, rest), rule.insecure), nil
}

func (r *routing) mirrorEndpoint(m mirror, path string) endpoint {
	ep := r.endpoint(m.scheme, m.host, joinPath(m.prefix, path), m.insecure)
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

// configFiles are the files that say how registries are reached. Those that do
// not exist count as empty.
type configFiles struct {
	builder    []string
	containers string
	dropIns    []string // folders
}

func systemConfigFiles() configFiles {
	home, _ := os.UserHomeDir()
	user := os.Getenv("XDG_CONFIG_HOME")
	if user == "" && home != "" {
		user = filepath.Join(home, ".config")
	}
	files := configFiles{
		containers: os.Getenv("CONTAINERS_REGISTRIES_CONF"),
		dropIns:    []string{"/etc/containers/registries.conf.d"},
	}
	if user != "" {
		files.builder = append(files.builder, filepath.Join(user, "builder", "config.toml"))
		files.dropIns = append(files.dropIns, filepath.Join(user, "containers", "registries.conf.d"))
		if conf := filepath.Join(user, "containers", "registries.conf"); files.containers == "" && exists(conf) {
			files.containers = conf
		}
	}
	files.builder = append(files.builder, "/etc/builder/config.toml")
	if files.containers == "" {
		files.containers = "/etc/containers/registries.conf"
	}
	return files
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
