package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"layered.build/builder/snapshot/files"
)

// saltSize is in bytes.
const saltSize = 32

// Salt returns a secret of this cache, which is made the first time: with it, what others
// must not read is hashed before it leaves the machine.
func (c *Cache) Salt() ([]byte, error) {
	path := filepath.Join(c.root, "salt")
	b, err := os.ReadFile(path)
	if err == nil && len(b) == saltSize {
		return b, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read salt of the cache: %w", err)
	}
	b = make([]byte, saltSize)
	rand.Read(b) // never fails
	if err := files.Replace(path, b, files.Replacement{Mode: 0o600}); err != nil {
		return nil, fmt.Errorf("write salt of the cache: %w", err)
	}
	return b, nil
}
