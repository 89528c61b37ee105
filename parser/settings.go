package parser

import (
	"regexp"
	"strings"
	"sync"
)

// readSettings finds the file's settings, before its first instruction. The name and the
// value must be all that a line has, so that a comment on a stage "builder" is none.
func (f *File) readSettings() {
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(f.Source), "\xef\xbb\xbf")) {
		n++
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			return
		}
		if m := setting().FindStringSubmatch(line); m != nil {
			f.Settings = append(f.Settings, Directive{Name: m[1], Value: m[2], Line: n})
		}
	}
}

var setting = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^#\s*builder:\s*([a-z][a-z-]*)\s*=\s*(\S+)$`)
})
