package overlay

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A writable mount leaves a mark in its work directory that it was volatile;
// the next mount of the same directories must not stumble over it.
func TestMountAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "at"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	spec := Spec{Lower: []string{dir + "/lower"}, Upper: dir + "/upper", Work: dir + "/work"}
	for range 2 {
		if err := Mount(spec, dir+"/at"); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(dir+"/at", 0); err != nil {
			t.Fatal(err)
		}
	}
}
