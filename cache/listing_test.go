package cache

import (
	"fmt"
	"strings"
	"testing"
)

// list makes a listing of directories, whose objects are "path=what".
func list(dirs ...string) string {
	var l Listing
	for _, dir := range dirs {
		l.Begin()
		for _, o := range strings.Fields(dir) {
			path, what, _ := strings.Cut(o, "=")
			l.Add(path, []byte(what))
		}
		l.End()
	}
	return l.String()
}

func TestListings(t *testing.T) {
	long := strings.Repeat("x", 300)
	before := list("src=1 src/a.go=1 src/b.go=1 src/sub=1 src/sub/c=1", "srcs=1 srcs/a=1", "l=1 l/"+long+"1=1 l/"+long+"2=1")
	after := list("src=1 src/a.go=2 src/b.go=1 src/d=1 src/sub=1", "srcs=1 srcs/a=2", "l=1 l/"+long+"1=1 l/"+long+"2=2")
	l := ReadListings(before, after)
	for dir, want := range map[string]string{
		"src": "src/a.go src/d src/sub/c", "src/": "src/a.go src/d src/sub/c", "srcs": "srcs/a", "l": "l/" + long + "2", "src/sub": "", "none": "",
	} {
		if paths, _, _ := l.Differ(dir); strings.Join(paths, " ") != want {
			t.Errorf("%s: %q, want %q", dir, paths, want)
		}
	}
	if _, was, is := l.Differ("src"); was["src/d"] != "" || is["src/d"] == "" || was["src/a.go"] == is["src/a.go"] || is["src/sub/c"] != "" {
		t.Errorf("was %v, is %v", was, is)
	}
	if paths, _, _ := ReadListings("", after).Differ("src"); paths != nil {
		t.Errorf("nothing was known of src: %q", paths)
	}
}

// TestListingsAreSmall leaves out a directory with too many objects, and one that cannot be
// written, and keeps those that fit.
func TestListingsAreSmall(t *testing.T) {
	var many []string
	for i := range maxListed {
		many = append(many, fmt.Sprintf("many/%d=1", i))
	}
	text := list("a=1 a/x=1", strings.Join(many, " "), "b=1 b/x=1")
	if got := strings.Count(text, "\n"); got != 4 {
		t.Errorf("%d lines", got)
	}
	var l Listing
	l.Begin()
	l.Add("a/new\nline", []byte("1"))
	l.Add("a/\xff", []byte("1"))
	l.End()
	if got := readListing(l.String()); len(got) != 1 || got["a/\xff"] == "" {
		t.Errorf("%q", got)
	}
	if size := len(list(strings.Join(many[:1000], " "))); size > 1000*(sumSize+6) {
		t.Errorf("%d bytes for 1000 objects", size)
	}
	for _, bad := range []string{"x", "abcdefzz", "abcdef05x\n", "\n"} {
		if got := readListing(bad); len(got) != 0 {
			t.Errorf("%q: %q", bad, got)
		}
	}
}
