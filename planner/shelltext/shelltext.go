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
