package object

import (
	"fmt"
	"slices"
	"strings"
)

// EscapePath escapes a path as signatures want it: everything but A-Z a-z 0-9 - . _ ~ and
// the slash.
func EscapePath(path string) string { return percent(path, "/") }

// Query makes a query as signatures want it: keys in order, all escaped.
func Query(pairs map[string]string) string {
	var parts []string
	for k, v := range pairs {
		parts = append(parts, percent(k, "")+"="+percent(v, ""))
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

func percent(s, more string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~"+more, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
