package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestTrueProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "true")
	if err := os.WriteFile(path, trueProgram(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(path).Run(); err != nil {
		t.Error(err)
	}
}
