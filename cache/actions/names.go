package actions

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
)

// blobs is before the digests of blobs.
const blobs = "builder-blob-"

// indexName is what the entries of an index are called, without their numbers. The branch is
// in it: one reads the indexes of several, and writes its own.
func indexName(branch, scope string) string {
	readable := strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '_', r == '.':
			return r
		}
		return '_'
	}, scope)
	if readable == "" {
		readable = "default"
	}
	sum := sha256.Sum256([]byte(branch + "\x00" + scope))
	return fmt.Sprintf("builder-index-%.40s-%x", readable, sum[:8])
}

// numbered is the key of an entry of a name.
func numbered(name string, n int) string { return name + "-" + strconv.Itoa(n) }

// numberOf is the number in a key of a name, 0 if it is none of it.
func numberOf(name, key string) int {
	text, ok := strings.CutPrefix(key, name+"-")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 1 {
		return 0
	}
	return n
}
