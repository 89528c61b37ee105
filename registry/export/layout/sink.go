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

// sink receives the files of an archive, each path once.
type sink interface {
	file(path string, size int64, r io.Reader) error
	dir(path string) error
}

// tarSink writes a tar whose bytes depend on nothing but the files.
type tarSink struct{ w *tar.Writer }

func (s tarSink) file(path string, size int64, r io.Reader) error {
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

func (s tarSink) dir(path string) error {
	hdr := &tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := s.w.WriteHeader(hdr); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// dirSink writes into a directory.
type dirSink string

func (s dirSink) file(path string, size int64, r io.Reader) error {
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

func (s dirSink) dir(path string) error {
	return os.MkdirAll(filepath.Join(string(s), filepath.FromSlash(path)), 0o755)
}

func small(s sink, path string, data []byte) error {
	return s.file(path, int64(len(data)), bytes.NewReader(data))
}
