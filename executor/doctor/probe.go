package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/snapshot/overlay"
)

// probeEnv tells the program that it is to try something, and what.
const probeEnv = "_BUILDER_PROBE"

// probed is what a rung allows; the texts are errors.
type probed struct {
	Error   string // it cannot run containers
	Overlay string
	Fuse    string
}

// Probe takes over if this process was started to try a rung; then it does not
// return. It belongs at the beginning of main.
func Probe() {
	what := os.Getenv(probeEnv)
	if what == "" {
		return
	}
	if what == "proc" { // in namespaces of its own
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
			fmt.Fprintf(os.Stderr, "/proc cannot be mounted in a new process namespace: %v\n", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	var p probed
	err := rootless.Init()
	if err == nil {
		err = tryContainer()
	}
	if err == nil {
		p.Overlay, p.Fuse = tryOverlays()
	} else {
		p.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(p); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// tryContainer makes the namespaces of a container, and what only they allow.
func tryContainer() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{probeEnv + "=proc"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 0 {
		return fmt.Errorf("%s", out)
	}
	if err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	return nil
}

// tryOverlays mounts overlays of directories in a tmpfs that nobody else sees.
func tryOverlays() (native, fuse string) {
	native, fuse = errText(overlay.ProbeMemory(overlay.Mount)), errText(overlay.ProbeMemory(overlay.MountFuse))
	return native, fuse
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
