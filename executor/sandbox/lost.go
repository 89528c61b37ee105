package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// KillUsers ends the processes that have something mounted from one of the given
// folders, which belong to processes of this program that are dead: a step that has
// given up its parent death signal (by executing a set-user-ID program, say) outlives
// a killed builder. Without folders nothing is looked at.
func KillUsers(folders []string) error {
	if len(folders) == 0 {
		return nil
	}
	infos, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return fmt.Errorf("look for lost processes: %w", err)
	}
	var errs []error
	for _, info := range infos {
		b, err := os.ReadFile(info)
		if err != nil || !mentions(b, folders) {
			continue // gone, or another user's
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(info)))
		if err == nil && pid != os.Getpid() {
			err = unix.Kill(pid, unix.SIGKILL)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("end lost process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}

// mentions reports whether a list of mounts names one of the folders, whose own
// names are unique.
func mentions(mountinfo []byte, folders []string) bool {
	for _, f := range folders {
		name := "/" + filepath.Base(filepath.Dir(f)) + "/" + filepath.Base(f) + "/"
		if bytes.Contains(mountinfo, []byte(name)) {
			return true
		}
	}
	return false
}
