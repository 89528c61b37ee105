package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMountOld mounts as on kernels that take all layers in one option, with names
// that have to be escaped in it.
func TestMountOld(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := filepath.Join(t.TempDir(), `a:b,c\d`)
	make := func(name, file, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if file != "" {
			if err := os.WriteFile(filepath.Join(path, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	s := Spec{Lower: []string{make("up:per", "f", "upper"), make("lo,wer", "f", "lower")}}
	make("lo,wer", "g", "lower")
	target := make("target", "", "")
	look := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	mount := func() {
		t.Helper()
		if err := s.mountOld(target); err != nil {
			t.Fatal(err)
		}
	}
	unmount := func() {
		t.Helper()
		if err := unix.Unmount(target, 0); err != nil {
			t.Fatal(err)
		}
	}
	mount()
	look("f", "upper")
	look("g", "lower")
	if err := os.WriteFile(filepath.Join(target, "new"), nil, 0o644); err == nil {
		t.Error("a mount without an upper directory can be written to")
	}
	unmount()

	s.Upper, s.Work = make("upper", "", ""), make("work", "", "")
	mount()
	if err := os.WriteFile(filepath.Join(target, "g"), []byte("changed"), 0o644); err != nil {
		t.Error(err)
	}
	look("g", "changed")
	unmount()
	if got, err := os.ReadFile(filepath.Join(s.Upper, "g")); err != nil || string(got) != "changed" {
		t.Errorf("the upper directory has %q, %v", got, err)
	}

	for n := range 500 {
		s.Lower = append(s.Lower, make(fmt.Sprint("layer", n), "", ""))
	}
	if err := s.mountOld(target); err == nil || !strings.Contains(err.Error(), "502 layers") {
		t.Errorf("too many layers: %v", err)
	}
	if err := (Spec{Lower: []string{filepath.Join(dir, "none"), s.Upper}}).mountOld(target); err == nil {
		t.Error("a layer that is not there was mounted")
	}
}
