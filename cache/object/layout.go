package object

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Layout says how objects are called.
type Layout struct {
	// Blobs is before the digests of blobs.
	Blobs string
	// Index is the name of the place's own index, without its ending.
	Index string
	// Indexes is before the names of all indexes whose blobs may be these.
	Indexes string
}

// suffix is at the end of the index's name: other builders keep manifests of their own
// under the name without it.
const suffix = ".builder"

// maxScope is how long an escaped scope may be: some services keep objects in files.
const maxScope = 120

func (l Layout) blob(d digest.Digest) string { return l.Blobs + d.String() }

// index names the index of a scope. No two have the same name: an escaped scope has no dot.
func (l Layout) index(scope string) string {
	if scope == "" {
		return l.Index + suffix
	}
	name := escape(scope)
	if len(name) > maxScope {
		name = fmt.Sprintf("%s~~%x", name[:maxScope/2], sha256.Sum256([]byte(scope)))
	}
	return l.Index + suffix + "~" + name
}

// escape writes a name with letters, digits, '-', '_' and '~', which mean nothing in URLs.
func escape(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "~%02X", c)
		}
	}
	return b.String()
}
