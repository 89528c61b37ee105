package layout

import (
	"errors"
	"io/fs"
	"os"
)

func osDir(dir string) fs.FS { return os.DirFS(dir) }

// iotest is a reader that fails.
type iotest struct{}

func (iotest) Read([]byte) (int, error) { return 0, errors.New("broken pipe") }
