package source

import (
	"path"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
)

// FuzzIgnore compares with the library that defines the language.
func FuzzIgnore(f *testing.F) {
	f.Add("*\n!a/b\na/b/c", "a/b/c")
	f.Add("**/x\n!y/**\ny/x", "y/x/z")
	f.Add("a[b-d]\\*\n!!x", "ac*")
	f.Add("**\n!**/*.go", "a/b.go")
	f.Fuzz(func(t *testing.T, patterns, p string) {
		if strings.Contains(p, "//") || strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || p == "" || len(p) > 60 || len(patterns) > 80 {
			return // not a path of a walk
		}
		lines := strings.Split(patterns, "\n")
		for _, l := range lines {
			if text := strings.TrimPrefix(strings.TrimSpace(l), "!"); strings.TrimSpace(text) != text || strings.TrimSpace(path.Clean(text)) != path.Clean(text) || strings.HasPrefix(text, "./") || strings.HasPrefix(text, "!") && strings.ContainsAny(text, "[\\") {
				return // reading an ignore file cleans these
			}
		}
		lib, err := patternmatcher.New(lines)
		if err != nil {
			return
		}
		ig, err := newIgnore(lines)
		if err != nil {
			return // the library notices some bad patterns only when it uses them
		}
		var want, got bool
		var info patternmatcher.MatchInfo
		var mine []bool
		parts := strings.Split(p, "/")
		for i := range parts {
			sub := strings.Join(parts[:i+1], "/")
			if want, info, err = lib.MatchesUsingParentResults(sub, info); err != nil {
				return
			}
			got, mine = ig.match(sub, i+1, mine, true)
			if got && !want || want && !got {
				t.Fatalf("%q on %q: %v, the library says %v", lines, sub, got, want)
			}
			if got && i < len(parts)-1 && !ig.mayReinclude(sub) {
				// Pruned: nothing below may be included.
				rest, _, err := lib.MatchesUsingParentResults(p, patternmatcher.MatchInfo{})
				if err == nil && !rest {
					t.Fatalf("%q: %q is pruned, but %q is included", lines, sub, p)
				}
			}
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte("builder-stat-index 1\n"))
	f.Add([]byte("builder-stat-index 1\n\x01a\x02\x01\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		blocks, err := decodeIndex(b)
		if err != nil {
			// The checksum guards the rest; look behind it all the same.
			blocks = map[string]string{"a": string(b)}
		}
		ix := &index{blocks: blocks}
		for dir := range blocks {
			for _, r := range ix.dir(dir) {
				if len(r.name) > len(b) {
					t.Fatal("a record is longer than the index")
				}
			}
		}
	})
}
