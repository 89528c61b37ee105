package overlay_test

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"layered.build/builder/snapshot/overlay"
)

func TestProbe(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	if err := overlay.Probe(dir, overlay.Mount); err != nil {
		t.Errorf("overlay: %v", err)
	}
	refused := errors.New("refused")
	if err := overlay.Probe(dir, func(overlay.Spec, string) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestProbeFuse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	if _, err := exec.LookPath("fuse-overlayfs"); err != nil {
		t.Skip("needs fuse-overlayfs (make deps-test installs it)")
	}
	if f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skip(err)
	} else {
		f.Close()
	}
	if err := overlay.Probe(t.TempDir(), overlay.MountFuse); err != nil {
		t.Error(err)
	}
}
