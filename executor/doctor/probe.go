package doctor

import (
	"encoding/json"
	"os"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/snapshot/overlay"
)

// probeEnv tells the program that it is to try something, and what.
const probeEnv = "_BUILDER_PROBE"

// What is tried.
const (
	probeContainer = "container"
	probeAll       = "all" // and overlays
)

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
	var p probed
	err := rootless.Init()
	if err == nil {
		err = tryContainer()
	}
	switch {
	case err != nil:
		p.Error = err.Error()
	case what == probeAll:
		p.Overlay, p.Fuse = tryOverlays()
	}
	if err := json.NewEncoder(os.Stdout).Encode(p); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
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
