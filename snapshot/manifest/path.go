package manifest

import "strings"

// ValidPath reports whether a path is as Entry.Path says: what io/fs calls valid, but
// for names that are not UTF-8, which Linux has no objection to.
func ValidPath(p string) bool {
	if p == "." {
		return true
	}
	for {
		name, rest, more := strings.Cut(p, "/")
		if name == "" || name == "." || name == ".." {
			return false
		}
		if !more {
			return true
		}
		p = rest
	}
}

// ComparePaths orders paths so that a directory comes before what is in it, and
// that before the directory's later siblings: as if "/" were the smallest byte.
func ComparePaths(a, b string) int {
	if a == "." || b == "." {
		switch {
		case a == b:
			return 0
		case a == ".":
			return -1
		}
		return 1
	}
	n := min(len(a), len(b))
	for i := range n {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x == '/' || (y != '/' && x < y) {
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

// IsBelow reports whether a path lies in a directory, at any depth.
func IsBelow(p, dir string) bool {
	if dir == "." {
		return p != "."
	}
	return len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}
