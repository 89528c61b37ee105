package parser

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

func TestReadIgnore(t *testing.T) {
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	context, elsewhere := t.TempDir(), t.TempDir()
	read := func(dockerfile string) string {
		t.Helper()
		ig, err := ReadIgnore(context, dockerfile)
		if err != nil {
			t.Fatal(err)
		}
		return ig.File + ":" + strings.Join(ig.Texts(), ",")
	}
	if got := read(""); got != ":" {
		t.Errorf("without a file: %q", got)
	}
	write(filepath.Join(context, ".dockerignore"), "general\n")
	write(filepath.Join(context, "Dockerfile2.dockerignore"), "special\n")
	write(filepath.Join(elsewhere, "D.dockerignore"), "far\n")
	for dockerfile, want := range map[string]string{
		"":                                    ".dockerignore:general",
		"-":                                   ".dockerignore:general",
		filepath.Join(context, "Dockerfile"):  ".dockerignore:general",
		filepath.Join(context, "Dockerfile2"): "Dockerfile2.dockerignore:special",
		filepath.Join(elsewhere, "D"):         "D.dockerignore:far",
	} {
		if got := read(dockerfile); got != want {
			t.Errorf("%q: %q, want %q", dockerfile, got, want)
		}
	}
	write(filepath.Join(context, ".dockerignore"), "a\n!\n")
	_, err := ReadIgnore(context, "")
	var e *Error
	if !errors.As(err, &e) || e.File != ".dockerignore" || e.Start != 2 {
		t.Errorf("bad pattern: %v", err)
	}
}

func TestExcludedSaysWhich(t *testing.T) {
	src := "\xef\xbb\xbf# comment\n\n*.md\n /build/ \n!build/keep\n**/*.tmp\nsub/**\n!sub/a\n!README.md\n"
	ig, err := ParseIgnore(".dockerignore", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path     string
		line     int
		excluded bool
	}{
		{"main.go", 0, false},
		{"x.md", 3, true},
		{"deep/x.md", 0, false},
		{"README.md", 9, false},
		{"build", 4, true},
		{"build/o/a.o", 4, true},
		{"build/keep", 5, false},
		{"build/keep/x", 5, false},
		{"deep/er/x.tmp", 6, true},
		{"sub/b", 7, true},
		{"sub/a", 8, false},
	} {
		p, excluded := ig.Excluded(c.path)
		if p.Line != c.line || excluded != c.excluded {
			t.Errorf("%s: line %d (%s), excluded %v; want line %d, %v", c.path, p.Line, p.Text, excluded, c.line, c.excluded)
		}
	}
}

func TestBadPatterns(t *testing.T) {
	for src, line := range map[string]int{"!": 1, "a\n\n  ! \n": 3, "ok\n[a": 2, "a\n[]a]": 2, "a\n\n\xe4": 3} {
		_, err := ParseIgnore(".dockerignore", []byte(src))
		var e *Error
		if !errors.As(err, &e) || e.Start != line || e.Excerpt() == "" {
			t.Errorf("%q: %v, want an error at line %d", src, err, line)
		}
	}
}

// FuzzIgnore compares with moby's own reading and matching.
func FuzzIgnore(f *testing.F) {
	f.Add([]byte("*.md\n!README.md\n"), "README.md")
	f.Add([]byte("a\n!a/b\n**/c\n"), "a/b/c")
	f.Add([]byte("\xef\xbb\xbf/x/\n#y\n!"), "x")
	f.Add([]byte("[a-\n\\*\n"), "*")
	f.Fuzz(func(t *testing.T, src []byte, path string) {
		ig, err := ParseIgnore("i", src)
		texts, readErr := ignorefile.ReadAll(strings.NewReader(string(src)))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Start < 1 {
				t.Fatalf("no *Error with a line: %v", err)
			}
			return
		}
		if readErr != nil {
			t.Fatalf("moby refuses it: %v", readErr)
		}
		if !slices.Equal(texts, ig.Texts()) {
			t.Fatalf("patterns %q, moby's %q", ig.Texts(), texts)
		}
		m, err := patternmatcher.New(texts)
		if err != nil {
			t.Fatalf("moby refuses %q: %v", texts, err)
		}
		path = filepath.Clean(path)
		want, err := m.MatchesOrParentMatches(path)
		if err != nil {
			return
		}
		if p, got := ig.Excluded(path); got != want {
			t.Fatalf("%q excluded %v by %+v, moby says %v for %q", path, got, p, want, texts)
		}
	})
}
