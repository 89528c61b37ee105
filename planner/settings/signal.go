package settings

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ValidSignal reports whether STOPSIGNAL may name this signal: a number, or a
// name with or without SIG, real-time signals included (RTMIN+3, RTMAX-2).
func ValidSignal(s string) bool {
	if n, err := strconv.Atoi(s); err == nil {
		return n > 0
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	for _, rt := range []struct {
		prefix string
		max    int
	}{{"RTMIN+", 15}, {"RTMAX-", 14}} {
		if rest, ok := strings.CutPrefix(name, rt.prefix); ok {
			n, err := strconv.Atoi(rest)
			return err == nil && n >= 1 && n <= rt.max
		}
	}
	return name == "RTMIN" || name == "RTMAX" || unix.SignalNum("SIG"+name) != 0
}
