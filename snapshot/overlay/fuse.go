package overlay

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// fuseProgram is found by PATH.
const fuseProgram = "fuse-overlayfs"

// MountFuse is Mount by the program fuse-overlayfs, for users and file systems for
// whom the kernel's overlay does not work. The program serves the mount until it
// is taken away. What was written is in the upper directory when it was written:
// nothing is cached.
func MountFuse(s Spec, target string) error {
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`, ",", `\,`).Replace
	lower := make([]string, len(s.Lower))
	for i, l := range s.Lower {
		lower[i] = escape(l)
	}
	opts := "lowerdir=" + strings.Join(lower, ":") + ",writeback=0"
	if s.Upper == "" {
		opts += ",ro"
	} else {
		opts += ",upperdir=" + escape(s.Upper) + ",workdir=" + escape(s.Work)
	}
	if os.Geteuid() == 0 {
		opts += ",allow_other"
	}
	cmd := exec.Command(fuseProgram, "-f", "-o", opts, target)
	out, err := os.CreateTemp("", "fuse-overlayfs-")
	if err != nil {
		return fmt.Errorf("mount with %s: %w", fuseProgram, err)
	}
	defer out.Close()
	defer os.Remove(out.Name())
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("mount with %s: %w", fuseProgram, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // when the mount is gone
	for !isFuse(target) {
		select {
		case err := <-ended:
			text, _ := os.ReadFile(out.Name())
			return fmt.Errorf("mount with %s: %w: %s", fuseProgram, err, bytes.TrimSpace(text))
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

func isFuse(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
}
