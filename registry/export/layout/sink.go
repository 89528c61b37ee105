package layout

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"layered.build/builder/snapshot/files"
)

// Sink receives the files of an archive, each path once, and folders before what is in
// them.
type Sink interface {
	// File takes a file of a known size. What does not have that size is an error.
	File(path string, size int64, r io.Reader) error
	// Dir makes a folder.
	Dir(path string) error
}

// tarSink writes a tar whose bytes depend on nothing but the files.
type tarSink struct{ w *tar.Writer }

// File implements Sink.
func (s tarSink) File(path string, size int64, r io.Reader) error {
	hdr := &tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := s.w.WriteHeader(hdr); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	n, err := io.Copy(s.w, r)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Dir implements Sink.
func (s tarSink) Dir(path string) error {
	hdr := &tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := s.w.WriteHeader(hdr); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// dirSink writes into a directory.
type dirSink string

// DirSink is a directory, which is made if there is none. Files that are there are
// replaced, each at once.
func DirSink(dir string) (Sink, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write OCI layout: %w", err)
	}
	return dirSink(dir), nil
}

// File implements Sink.
func (s dirSink) File(path string, size int64, r io.Reader) error {
	full := filepath.Join(string(s), filepath.FromSlash(path))
	err := files.ReplaceBy(full, files.Replacement{Mode: 0o644}, func(w io.Writer) error {
		n, err := io.Copy(w, r)
		if err == nil && n != size {
			err = fmt.Errorf("%d bytes instead of %d: %w", n, size, io.ErrUnexpectedEOF)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Dir implements Sink.
func (s dirSink) Dir(path string) error {
	return os.MkdirAll(filepath.Join(string(s), filepath.FromSlash(path)), 0o755)
}

func small(s Sink, path string, data []byte) error {
	return s.File(path, int64(len(data)), bytes.NewReader(data))
}
