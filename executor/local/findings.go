package local

import (
	"fmt"
	"slices"
	"strings"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// maxReplaced bounds how many replaced files are named.
const maxReplaced = 3

// findings collects what is doubtful about a COPY or ADD. The zero value is ready.
type findings struct {
	owners []string
	// several says that there may be more than one source.
	several bool
	// match is the source that is copied, counted from 1; 0 for one that does not count:
	// sources whose destination can only be a directory may be laid over each other.
	match    int
	names    []string       // of the sources so far
	from     map[string]int // by path, the source that brought it
	replaced []string
	more     int // that replaced does not name
}

// begin says that a source is copied from now on.
func (f *findings) begin(m match, dest string) {
	f.names = append(f.names, m.name)
	if f.match = len(f.names); !f.several || strings.HasSuffix(dest, "/") {
		f.match = 0
	}
}

// put is told of what a source brings.
func (f *findings) put(e *snapshot.Entry) {
	if f.match == 0 || e.Type == snapshot.TypeDir || e.Type == snapshot.TypeWhiteout {
		return
	}
	if f.from == nil {
		f.from = map[string]int{}
	}
	earlier, ok := f.from[e.Path]
	f.from[e.Path] = f.match
	switch {
	case !ok || earlier == f.match:
	case len(f.replaced) < maxReplaced:
		f.replaced = append(f.replaced, fmt.Sprintf("/%s of %s was replaced by that of %s", e.Path, f.names[earlier-1], f.names[f.match-1]))
	default:
		f.more++
	}
}

// unknownOwner is told which names the image does not know, and who owns what is copied.
func (f *findings) unknownOwner(names []string, o owner) {
	for _, name := range names {
		text := fmt.Sprintf("the image does not know the %s: what is copied belongs to %d:%d", name, o.uid, o.gid)
		if !slices.Contains(f.owners, text) {
			f.owners = append(f.owners, text)
		}
	}
}

// all are the findings of a step.
func (f *findings) all() []cache.Finding {
	var out []cache.Finding
	for _, text := range f.owners {
		out = append(out, cache.Finding{Rule: dag.RuleOwnerUnknown, Text: text})
	}
	if len(f.replaced) == 0 {
		return out
	}
	text := strings.Join(f.replaced, ", ")
	if f.more > 0 {
		text += fmt.Sprintf(", and %d more", f.more)
	}
	return append(out, cache.Finding{Rule: dag.RuleSourceReplaced, Text: text + ": a destination of several sources should end with a slash"})
}
