package cache

import (
	"encoding/base64"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

// FilesPart is the name of the detail of an input that lists what is below the directories
// which other details name. No path is called so. Its value is a Listing.
const FilesPart = "//"

const (
	// maxListed is how many objects a listing may have.
	maxListed = 2000
	// sumSize is how many characters stand for an object.
	sumSize = 6
	// maxShared is how many bytes a path has in common with the one before it.
	maxShared = 0xff
)

// Listing says in few bytes what the objects below some directories are, so that it can be
// told later which of them changed. A directory with too many objects is left out. The zero
// value is empty.
//
// Its form is a line for each object: six characters of base64 of the FNV-1a sum of what
// counts of it, two hexadecimal digits that say how many bytes of the path are those of the
// line before, and the rest of the path.
type Listing struct {
	text  strings.Builder
	count int
	last  string

	open    []listed // below the directory that is being listed
	tooMany bool
}

type listed struct{ path, sum string }

// Begin begins a directory.
func (l *Listing) Begin() { l.open, l.tooMany = l.open[:0], false }

// Add adds an object below the directory: its path, and what counts of it.
func (l *Listing) Add(path string, what []byte) {
	switch {
	case strings.Contains(path, "\n"): // cannot be told apart from others
	case l.count+len(l.open) >= maxListed:
		l.tooMany = true
	default:
		h := fnv.New64a()
		h.Write(what)
		sum := base64.RawURLEncoding.EncodeToString(h.Sum(nil))[:sumSize]
		l.open = append(l.open, listed{path, sum})
	}
}

// End ends the directory.
func (l *Listing) End() {
	if l.tooMany {
		return
	}
	for _, o := range l.open {
		shared := 0
		for shared < min(len(o.path), len(l.last), maxShared) && o.path[shared] == l.last[shared] {
			shared++
		}
		l.text.WriteString(o.sum)
		if shared < 0x10 {
			l.text.WriteByte('0')
		}
		l.text.WriteString(strconv.FormatInt(int64(shared), 16))
		l.text.WriteString(o.path[shared:])
		l.text.WriteByte('\n')
		l.last = o.path
	}
	l.count += len(l.open)
}

// String is the value of a FilesPart, "" if there is nothing to list.
func (l *Listing) String() string { return l.text.String() }

// readListing returns sums by path; what is malformed ends it.
func readListing(s string) map[string]string {
	out := map[string]string{}
	last := ""
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) < sumSize+2 {
			break
		}
		shared, err := strconv.ParseUint(line[sumSize:sumSize+2], 16, 8)
		if err != nil || int(shared) > len(last) {
			break
		}
		last = last[:shared] + line[sumSize+2:]
		out[last] = line[:sumSize]
	}
	return out
}

// Listings are two of one input at different times.
type Listings struct{ before, after map[string]string }

// ReadListings reads the values of two FilesParts.
func ReadListings(before, after string) *Listings {
	return &Listings{readListing(before), readListing(after)}
}

// Differ lists the objects below a directory that are not what they were, by path: what
// stood for them and what does, "" where there is none. Nothing is listed of a directory of
// which one of them tells nothing.
func (l *Listings) Differ(dir string) (paths []string, before, after map[string]string) {
	below := strings.TrimSuffix(dir, "/") + "/"
	before, after = within(l.before, below), within(l.after, below)
	if len(before) == 0 || len(after) == 0 {
		return nil, nil, nil
	}
	for path, sum := range after {
		if before[path] != sum {
			paths = append(paths, path)
		}
	}
	for path := range before {
		if _, still := after[path]; !still {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths, before, after
}

func within(all map[string]string, below string) map[string]string {
	out := map[string]string{}
	for path, sum := range all {
		if strings.HasPrefix(path, below) {
			out[path] = sum
		}
	}
	return out
}
