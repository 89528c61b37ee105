package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"layered.build/builder/registry/errdef"
)

// Rule is a table [[registry]] of the containers' registries.conf, version 2
// (containers-registries.conf(5)), as far as it concerns full names; search lists and
// aliases for short names do not apply: short names are Docker Hub's.
type Rule struct {
	// File has the rule.
	File string
	// Prefix is what a reference must begin with: a host, a host with a path, or
	// "*.example.com".
	Prefix string
	// Location, unless its host is "", is where the repositories really are.
	Location Mirror
	// Insecure allows http and any certificate; Blocked allows nothing.
	Insecure, Blocked bool
	// Mirrors are tried in order before the location.
	Mirrors []Mirror
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
func (c *Config) readRegistriesConf(f Files) error {
	paths := []string{f.Containers}
	for _, dir := range f.DropIns {
		more, err := filepath.Glob(filepath.Join(dir, "*.conf")) // sorted
		if err != nil {
			return fmt.Errorf("read registries.conf.d: %w", err)
		}
		paths = append(paths, more...)
	}
	byPrefix := map[string]Rule{}
	for _, path := range paths {
		data, err := f.read(path, c)
		if err != nil {
			return fmt.Errorf("read registries.conf: %w", err)
		}
		rules, err := parseRegistriesConf(path, data)
		if err != nil {
			return err
		}
		for _, rule := range rules {
			byPrefix[rule.Prefix] = rule
		}
	}
	// An exact prefix comes before a wildcard of the same length.
	c.Rules = slices.SortedFunc(maps.Values(byPrefix), func(a, b Rule) int { return strings.Compare(b.Prefix, a.Prefix) })
	return nil
}

func parseRegistriesConf(path string, data []byte) ([]Rule, error) {
	var file registriesFile
	if err := toml.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, errdef.ErrInvalid, err)
	}
	var rules []Rule
	for _, reg := range file.Registry {
		rule := Rule{File: path, Prefix: reg.Prefix, Insecure: reg.Insecure, Blocked: reg.Blocked}
		if rule.Prefix == "" {
			rule.Prefix = reg.Location
		}
		if rule.Prefix == "" {
			return nil, fmt.Errorf("%s: %w: a [[registry]] has neither prefix nor location", path, errdef.ErrInvalid)
		}
		rule.Prefix = strings.TrimSuffix(rule.Prefix, "/")
		if reg.Location != "" {
			loc, err := ParseMirror(reg.Location)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			rule.Location = loc
		}
		for _, mt := range reg.MirrorTables {
			m, err := ParseMirror(mt.Location)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			m.Insecure, m.PullBy = mt.Insecure, mt.PullFrom
			if reg.DigestOnly && m.PullBy == "" {
				m.PullBy = "digest-only"
			}
			rule.Mirrors = append(rule.Mirrors, m)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}
