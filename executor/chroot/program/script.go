package program

import (
	"bytes"
	"strings"
)

// ParseScript reads the first line of a script, as Linux does.
func ParseScript(head []byte) (interp, arg string, ok bool) {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	text := strings.Trim(string(line), " \t\r\x00")
	i := strings.IndexAny(text, " \t")
	if i < 0 {
		return text, "", text != ""
	}
	return text[:i], strings.Trim(text[i:], " \t"), true
}
