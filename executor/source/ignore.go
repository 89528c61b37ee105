package source

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sys/unix"
)

// ignore decides which paths the patterns of an ignore file exclude, with the
// rules of moby/patternmatcher (the last pattern that matches a path or one of its
// parents wins). Unlike a PatternMatcher it is safe for concurrent use, and it
// looks only at the patterns that can match a path of its depth.
type ignore struct {
	patterns []pattern
	negated  bool // there are patterns that re-include
	// noParent says for a matcher of one pattern that it did not match the parent,
	// so that it is not tried again.
	noParent patternmatcher.MatchInfo
}

type pattern struct {
	text    string // without "!"
	negated bool
	// parts are the components; depth is their number, or 0 if the pattern may
	// match paths of any depth.
	parts   []string
	depth   int
	matcher *patternmatcher.PatternMatcher // of this pattern alone, not negated
}

// newIgnore compiles patterns.
func newIgnore(patterns []string) (*ignore, error) {
	all, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("ignore patterns: %w", err)
	}
	ig := &ignore{negated: all.Exclusions()}
	never, err := patternmatcher.New([]string{"!x"})
	if err != nil {
		return nil, fmt.Errorf("ignore patterns: %w", err)
	}
	if _, ig.noParent, err = never.MatchesUsingParentResults("x", patternmatcher.MatchInfo{}); err != nil {
		return nil, fmt.Errorf("ignore patterns: %w", err)
	}
	for _, p := range all.Patterns() {
		text := p.String()
		alone := text
		if strings.HasPrefix(alone, "!") { // "!!x" re-includes a file called "!x"
			alone = `\` + alone
		}
		m, err := patternmatcher.New([]string{alone})
		if err != nil {
			return nil, fmt.Errorf("ignore pattern %s: %w", text, err)
		}
		// A pattern is compiled when it is first used; later uses only read.
		if _, err := m.MatchesOrParentMatches("x"); err != nil {
			return nil, fmt.Errorf("ignore pattern %s: %w", text, err)
		}
		parts := strings.Split(text, "/")
		depth := len(parts)
		// The library makes a regular expression of a pattern and quotes only some
		// of what means something there: with the rest, anything may match.
		if strings.Contains(text, "**") || strings.ContainsAny(text, `[\|()+{}^`) {
			depth = 0
		}
		ig.patterns = append(ig.patterns, pattern{text, p.Exclusion(), parts, depth, m})
	}
	return ig, nil
}

// match reports whether a path is excluded, and by which patterns it is matched
// (for its children). Parent is what match returned for its directory; nil for
// paths in the root. Depth is the number of the path's components.
func (ig *ignore) match(path string, depth int, parent []bool, keep bool) (bool, []bool) {
	if len(ig.patterns) == 0 {
		return false, nil
	}
	excluded, _, info := ig.decide(path, depth, parent, keep)
	return excluded, info
}

func (ig *ignore) decide(path string, depth int, parent []bool, keep bool) (excluded bool, by int, info []bool) {
	if keep {
		info = make([]bool, len(ig.patterns))
	}
	by = -1
	for i := range ig.patterns {
		p := &ig.patterns[i]
		hit := parent != nil && parent[i]
		if !hit {
			// A pattern that would not change anything is not evaluated; the
			// library does not either, and children of a directory inherit that.
			if p.negated != excluded || p.depth != 0 && p.depth != depth {
				continue
			}
			hit, _, _ = p.matcher.MatchesUsingParentResults(path, ig.noParent)
		}
		if info != nil {
			info[i] = hit
		}
		if hit {
			excluded, by = !p.negated, i
		}
	}
	return excluded, by, info
}

// excludedBy returns the pattern that excludes a path.
func (ig *ignore) excludedBy(path string) (string, bool) {
	var info []bool
	parts := strings.Split(path, "/")
	for i := range parts {
		excluded, by, next := ig.decide(strings.Join(parts[:i+1], "/"), i+1, info, true)
		if excluded && (i == len(parts)-1 || !ig.negated) {
			return ig.patterns[by].text, true
		}
		info = next
	}
	return "", false
}

// mayReinclude reports whether a negated pattern could match something below an
// excluded directory.
func (ig *ignore) mayReinclude(dir string) bool {
	if !ig.negated {
		return false
	}
	parts := strings.Split(dir, "/")
	for _, p := range ig.patterns {
		if p.negated && p.mayMatchBelow(parts) {
			return true
		}
	}
	return false
}

func (p *pattern) mayMatchBelow(dir []string) bool {
	for i, part := range dir {
		if i >= len(p.parts) {
			return false
		}
		if strings.Contains(p.parts[i], "**") || strings.ContainsAny(p.parts[i], `[\`) {
			return true
		}
		if ok, err := filepath.Match(p.parts[i], part); err != nil || !ok {
			return false
		}
	}
	return len(p.parts) > len(dir)
}

// Hidden finds something in a directory that a component of a path matches and an ignore
// pattern hides; both are "" if there is nothing.
func (t *Tree) Hidden(dir, glob string) (name, pattern string) {
	f, err := openBeneath(t.root, path.Clean(dir), unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return "", ""
	}
	slices.Sort(names)
	for _, n := range names {
		if ok, err := filepath.Match(glob, n); err != nil || !ok {
			continue
		}
		p := path.Join(dir, n)
		if pattern, ok := t.ignore.excludedBy(p); ok {
			return p, pattern
		}
	}
	return "", ""
}
