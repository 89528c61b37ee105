package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Replacement says how a file is replaced. The zero value is the default.
type Replacement struct {
	// Mode is the file's mode, whatever the umask is; 0 means 0600.
	Mode fs.FileMode
	// Sync writes the content to disk before the file gets its name, so that it does
	// not outlive a crash as an empty one.
	Sync bool
	// Temp is the folder for the unfinished file, on the same file system; "" means
	// the folder of the file.
	Temp string
	// Prefix begins the name of the unfinished file; "" means ".tmp-".
	Prefix string
}

// Replace writes a file of the program's own, which appears as a whole or not at all.
// Whatever has the name is replaced, also a symbolic link, and keeps nothing; Write is
// for what users name.
func Replace(path string, data []byte, r Replacement) error {
	return ReplaceBy(path, r, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// ReplaceBy is Replace with what a function writes. If it fails nothing is replaced.
func ReplaceBy(path string, r Replacement, write func(io.Writer) error) error {
	if r.Temp == "" {
		r.Temp = filepath.Dir(path)
	}
	f, err := NewPending(r)
	if err != nil {
		return err
	}
	if err := write(f.File); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit(path)
}

// Pending is a file that has no name of its own yet. Either Commit or Discard ends it.
type Pending struct {
	*os.File
	r Replacement
}

// NewPending makes a file in the folder r.Temp.
func NewPending(r Replacement) (*Pending, error) {
	if r.Prefix == "" {
		r.Prefix = ".tmp-"
	}
	f, err := os.CreateTemp(r.Temp, r.Prefix+"*")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	return &Pending{File: f, r: r}, nil
}

// Commit completes the file and gives it its name, in place of what has that now. If
// it fails the file is gone. After Discard it fails.
func (p *Pending) Commit(path string) error {
	var err error
	if p.r.Mode != 0 {
		err = p.Chmod(p.r.Mode)
	}
	if err == nil && p.r.Sync {
		err = p.Sync()
	}
	if err = errors.Join(err, p.File.Close()); err == nil {
		err = os.Rename(p.Name(), path)
	}
	if err != nil {
		os.Remove(p.Name())
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// Discard removes the file. It does nothing after Commit.
func (p *Pending) Discard() error {
	if err := p.File.Close(); errors.Is(err, os.ErrClosed) {
		return nil
	}
	return os.Remove(p.Name())
}
