package runc

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

// attach is snapshot.Mount.Attach until that is there.
func attach(m snapshot.Mount, target string) error {
	if m.Upper == "" && len(m.Lower) == 1 {
		return unix.Mount(m.Lower[0], target, "", unix.MS_BIND|unix.MS_REC, "")
	}
	opts := "redirect_dir=off,metacopy=off,index=off,lowerdir=" + strings.Join(m.Lower, ":")
	if m.Upper != "" {
		os.RemoveAll(m.Work + "/work/incompat")
		opts += ",volatile,upperdir=" + m.Upper + ",workdir=" + m.Work
	}
	return unix.Mount("overlay", target, "overlay", 0, opts)
}
