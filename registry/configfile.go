package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// configFile is builder's own configuration, config.toml:
//
//	[registry."docker.io"]
//	mirrors = ["http://127.0.0.1:5000", "https://mirror.example.com/hub"]
//
//	[registry."registry.example.com:5000"]
//	insecure = true     # http, or a certificate that does not verify
type configFile struct {
	Registry map[string]struct {
		Mirrors  []string `toml:"mirrors"`
		Insecure bool     `toml:"insecure"`
	} `toml:"registry"`
	GC gcSettings `toml:"gc"` // see ReadGC
}

func (r *routing) readConfig(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	var cfg configFile
	if err := toml.NewDecoder(f).DisallowUnknownFields().Decode(&cfg); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return fmt.Errorf("%s: %w: unknown settings:\n%s", path, ErrInvalid, strict.String())
		}
		return fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
	}
	for domain, reg := range cfg.Registry {
		for _, m := range reg.Mirrors {
			if err := r.addMirror(domain, m); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if reg.Insecure {
			r.insecure = append(r.insecure, domain)
		}
	}
	return nil
}

// registriesConf is the containers' registries.conf, version 2
// (containers-registries.conf(5)), as far as it concerns full names; search
// lists and aliases for short names do not apply: short names are Docker Hub's.
type registriesConf struct{ rules []registryRule }

type registryRule struct {
	file string
	// prefix is what a reference must begin with: a host, a host with a path, or
	// "*.example.com".
	prefix   string
	location mirror
	insecure bool
	blocked  bool
	mirrors  []mirror
}

type registriesFile struct {
	Registry []struct {
		Prefix       string `toml:"prefix"`
		Location     string `toml:"location"`
		Insecure     bool   `toml:"insecure"`
		Blocked      bool   `toml:"blocked"`
		DigestOnly   bool   `toml:"mirror-by-digest-only"`
		MirrorTables []struct {
			Location string `toml:"location"`
			Insecure bool   `toml:"insecure"`
			PullFrom string `toml:"pull-from-mirror"`
		} `toml:"mirror"`
	} `toml:"registry"`
}

// readRegistriesConf reads the main file and then the drop-ins; a later rule
// replaces an earlier one for the same prefix.
func readRegistriesConf(main string, dropIns []string) (registriesConf, error) {
	paths := []string{main}
	for _, dir := range dropIns {
		more, err := filepath.Glob(filepath.Join(dir, "*.conf")) // sorted
		if err != nil {
			return registriesConf{}, fmt.Errorf("read registries.conf.d: %w", err)
		}
		paths = append(paths, more...)
	}
	byPrefix := map[string]registryRule{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return registriesConf{}, fmt.Errorf("read registries.conf: %w", err)
		}
		rules, err := parseRegistriesConf(path, data)
		if err != nil {
			return registriesConf{}, err
		}
		for _, rule := range rules {
			byPrefix[rule.prefix] = rule
		}
	}
	var conf registriesConf
	for _, rule := range byPrefix {
		conf.rules = append(conf.rules, rule)
	}
	return conf, nil
}

func parseRegistriesConf(path string, data []byte) ([]registryRule, error) {
	var file registriesFile
	if err := toml.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
	}
	var rules []registryRule
	for _, reg := range file.Registry {
		rule := registryRule{file: path, prefix: reg.Prefix, insecure: reg.Insecure, blocked: reg.Blocked}
		if rule.prefix == "" {
			rule.prefix = reg.Location
		}
		if rule.prefix == "" {
			return nil, fmt.Errorf("%s: %w: a [[registry]] has neither prefix nor location", path, ErrInvalid)
		}
		rule.prefix = strings.TrimSuffix(rule.prefix, "/")
		if reg.Location != "" {
			loc, err := parseMirror(reg.Location)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			rule.location = loc
		}
		for _, mt := range reg.MirrorTables {
			m, err := parseMirror(mt.Location)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			m.insecure, m.pullBy = mt.Insecure, mt.PullFrom
			if reg.DigestOnly && m.pullBy == "" {
				m.pullBy = "digest-only"
			}
			rule.mirrors = append(rule.mirrors, m)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// match returns the rule with the longest prefix, and what of the repository
// stands behind the prefix.
func (c registriesConf) match(ref Reference) (*registryRule, string) {
	var best *registryRule
	var rest string
	for i := range c.rules {
		rule := &c.rules[i]
		if best != nil && len(rule.prefix) <= len(best.prefix) {
			continue
		}
		if r, ok := rule.matches(ref); ok {
			best, rest = rule, r
		}
	}
	return best, rest
}

func (r *registryRule) matches(ref Reference) (string, bool) {
	if suffix, ok := strings.CutPrefix(r.prefix, "*"); ok {
		return ref.Path, strings.HasSuffix(ref.Domain, suffix)
	}
	rest, ok := strings.CutPrefix(ref.Repository(), r.prefix)
	if !ok || rest != "" && rest[0] != '/' {
		return "", false
	}
	return strings.TrimPrefix(rest, "/"), true
}
