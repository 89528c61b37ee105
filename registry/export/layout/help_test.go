package layout

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"layered.build/builder/registry"
)

func osDir(dir string) fs.FS { return os.DirFS(dir) }

// iotest is a reader that fails.
type iotest struct{}

func (iotest) Read([]byte) (int, error) { return 0, errors.New("broken pipe") }

// writeOCIDir writes a layout into a directory.
func writeOCIDir(t *testing.T, dir string, c *registry.Client, it Item) error {
	t.Helper()
	s, err := DirSink(dir)
	if err != nil {
		return err
	}
	return WriteOCITo(t.Context(), s, c, it)
}
