package manifest

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Take reads a manifest file that comes from elsewhere, of at most so many bytes, into the new
// file name, which is removed at once: it is there as long as the Index.
func Take(name string, r io.Reader, most int64) (_ *Index, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	n, err := io.Copy(f, io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if n > most {
		return nil, fmt.Errorf("a manifest of more than %d bytes", most)
	}
	return Open(name)
}
