// Package shelltext tells what can be told of a shell script without running it.
package shelltext

import (
	"regexp"
	"strings"
	"sync"
)

var errexit = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^\s*set\s+(-[a-zA-Z]+\s+)*(-[a-zA-Z]*e|-o\s+errexit|-[a-zA-Z]*o\s+errexit)`)
})

// SetsErrexit reports whether a script tells its shell to end when a command fails.
func SetsErrexit(script string) bool { return errexit().MatchString(script) }

// IsErrexitFlag reports whether an argument of a shell is or has the flag -e.
func IsErrexitFlag(arg string) bool {
	return arg == "errexit" || strings.HasPrefix(arg, "-") && !strings.HasPrefix(arg, "--") && strings.Contains(arg, "e")
}

// Commands counts the lines of a script that begin a command of their own.
func Commands(script string) int {
	n, goesOn := 0, false
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !goesOn {
			n++
		}
		goesOn = strings.HasSuffix(line, `\`) || strings.HasSuffix(line, "&&") || strings.HasSuffix(line, "||") || strings.HasSuffix(line, "|")
	}
	return n
}

// Names are all words of a text that may be names of variables, whether or not they are
// used as such.
func Names(text string) map[string]bool {
	names := map[string]bool{}
	for _, w := range strings.FieldsFunc(text, func(r rune) bool { return !inName(r) }) {
		names[w] = true
	}
	return names
}

func inName(r rune) bool {
	return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// Summary is a script's first line.
func Summary(script string) string {
	first, _, more := strings.Cut(strings.TrimSpace(script), "\n")
	first = strings.TrimSuffix(first, "\r")
	if more {
		first += "..."
	}
	return first
}
