package collect

import (
	"testing"

	"layered.build/builder/snapshot/gc"
)

func TestPartOf(t *testing.T) {
	m := &measured{folders: []gc.Folder{
		{Name: "layers", Depth: 1}, {Name: "blobs/sha256", Depth: 1}, {Name: "cache", Depth: 2}, {Name: "mounts", Depth: 1},
		{Name: "sources/git", Depth: 2},
	}}
	for path, want := range map[string]string{
		"":                             "",
		"version":                      "version",
		"layers":                       "layers",
		"layers/ab/dir/etc/passwd":     "layers/ab",
		"blobs/sha256/ab":              "blobs/sha256/ab",
		"blobs/sha256":                 "blobs",
		"cache/ab":                     "cache/ab",
		"cache/ab/abcd.json":           "cache/ab/abcd.json",
		"mounts/x/y/z":                 "mounts/x",
		"sources/git/repos/x.git/HEAD": "sources/git/repos/x.git",
		"images/records/x.json":        "images",
	} {
		if got := m.partOf(path); got != want {
			t.Errorf("%q is part of %q, not %q", path, got, want)
		}
	}
}
