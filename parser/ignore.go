package parser

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// maxIgnoreFile bounds an ignore file's size.
const maxIgnoreFile = 1 << 20

// Ignore is the ignore file of a build context.
type Ignore struct {
	// File is what messages call it.
	File string
	// Patterns are in the file's order: the last that matches decides.
	Patterns []Pattern
}

// Pattern is one line of an ignore file.
type Pattern struct {
	// Text is the pattern as moby/patternmatcher takes it: clean, relative,
	// with a leading "!" if it re-includes.
	Text string
	File string
	Line int // 1-based
}

// ReadIgnore reads the ignore file of a context: "<dockerfile>.dockerignore"
// beside the Dockerfile if there is one, else ".dockerignore" in the context.
// Dockerfile is the Dockerfile's path, "" or "-" if it has none. Without an
// ignore file the result is empty and not nil.
func ReadIgnore(contextDir, dockerfile string) (*Ignore, error) {
	var paths []string
	if dockerfile != "" && dockerfile != "-" {
		paths = append(paths, dockerfile+".dockerignore")
	}
	paths = append(paths, filepath.Join(contextDir, ".dockerignore"))
	for _, p := range paths {
		src, err := readBounded(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read ignore file: %w", err)
		}
		return ParseIgnore(filepath.Base(p), src)
	}
	return &Ignore{}, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxIgnoreFile+1))
	if err == nil && len(src) > maxIgnoreFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxIgnoreFile)
	}
	return src, err
}

// ParseIgnore parses an ignore file. A pattern that cannot be right (such as
// "!" alone) is an *Error with its line.
func ParseIgnore(name string, src []byte) (*Ignore, error) {
	ig := &Ignore{File: name}
	for i, line := range bytes.Split(src, []byte("\n")) {
		if i > 0 {
			// Only a file's first line can have a byte order mark.
			line = append([]byte("\n"), line...)
		}
		texts, err := ignorefile.ReadAll(bytes.NewReader(line))
		if err == nil {
			_, err = patternmatcher.New(texts)
		}
		if err == nil && !utf8.ValidString(strings.Join(texts, "")) {
			err = errors.New("not valid UTF-8")
		}
		if err != nil {
			return nil, &Error{
				File: name, Source: src, Start: i + 1, End: i + 1,
				Msg: fmt.Sprintf("bad pattern: %v", err), Err: err,
			}
		}
		for _, t := range texts {
			ig.Patterns = append(ig.Patterns, Pattern{Text: t, File: name, Line: i + 1})
		}
	}
	return ig, nil
}

// Texts returns the patterns' texts (planner.Options.Excludes).
func (ig *Ignore) Texts() []string {
	var texts []string
	for _, p := range ig.Patterns {
		texts = append(texts, p.Text)
	}
	return texts
}

// Excluded reports whether a path (slash-separated, relative to the context) is
// excluded and which pattern decides; the pattern is zero if none matches. A
// file below an excluded directory is excluded by the directory's pattern. It is
// for explaining one path; to walk a context, take a matcher of the texts.
func (ig *Ignore) Excluded(path string) (Pattern, bool) {
	for i := len(ig.Patterns) - 1; i >= 0; i-- {
		p := ig.Patterns[i]
		text, keep := p.Text, false
		if text[0] == '!' {
			text, keep = text[1:], true
		}
		m, err := patternmatcher.New([]string{text})
		if err != nil {
			continue // cannot be: ParseIgnore has compiled it
		}
		if ok, err := m.MatchesOrParentMatches(filepath.FromSlash(path)); err == nil && ok {
			return p, !keep
		}
	}
	return Pattern{}, false
}
