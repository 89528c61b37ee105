package source

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// No way of opening a file follows a link or leaves the root, whatever the kernel has.
func TestOpenBeneath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	write(t, filepath.Dir(dir), map[string]string{"secret": "secret", "root/a/b/f": "text", "root/f": "text"})
	for link, target := range map[string]string{"out": "..", "a/in": "b", "a/b/last": "f", "far": "/etc"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := openRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	before := openFiles(t)
	for way, open := range map[string]func(*os.File, string, int) (*os.File, error){"openat2": openBeneath, "step by step": openStepwise} {
		for path, found := range map[string]bool{
			"f": true, "a/b/f": true,
			"none": false, "f/f": false, "a/none/f": false, "out/secret": false, "a/in/f": false, "a/b/last": false, "far/passwd": false,
			"../secret": false, "a/../../secret": false,
		} {
			f, err := open(root, path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW)
			if (err == nil) != found {
				t.Errorf("%s: %s: %v", way, path, err)
			}
			if err != nil {
				continue
			}
			if text, err := io.ReadAll(f); err != nil || string(text) != "text" {
				t.Errorf("%s: %s: %q, %v", way, path, text, err)
			}
			f.Close()
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, %d were", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
