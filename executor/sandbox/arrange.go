package sandbox

import (
	"cmp"
	"path"
	"slices"
	"strings"
)

// Arrange returns mounts in the order in which they are made: parents before what is in
// them, otherwise as they come. Of several at one place the last one counts.
func Arrange(mounts []Mount) []Mount {
	at := map[string]int{}
	var out []Mount
	for _, m := range mounts {
		m.Dest = path.Clean(m.Dest)
		if i, ok := at[m.Dest]; ok {
			out[i] = m
			continue
		}
		at[m.Dest] = len(out)
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b Mount) int {
		return cmp.Compare(strings.Count(a.Dest, "/"), strings.Count(b.Dest, "/"))
	})
	return out
}
