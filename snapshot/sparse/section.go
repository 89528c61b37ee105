package sparse

import (
	"io"
	"os"
)

// Section reads a part of a file whose holes can be asked for.
type Section struct {
	*io.SectionReader
	// File and Off are where it begins.
	File *os.File
	Off  int64
	// owned: Close closes the file.
	owned bool
}

// NewSection returns a part of a file, which it closes with itself if it owns it.
func NewSection(f *os.File, off, size int64, owned bool) *Section {
	return &Section{SectionReader: io.NewSectionReader(f, off, size), File: f, Off: off, owned: owned}
}

// Close implements io.Closer.
func (s *Section) Close() error {
	if !s.owned {
		return nil
	}
	return s.File.Close()
}

// Place tells in which file a reader is at its beginning, and where: a *Section or a file.
// It is false for others, and for files that cannot be sought in.
func Place(r io.Reader) (f *os.File, off int64, ok bool) {
	switch r := r.(type) {
	case *Section:
		return r.File, r.Off, true
	case *os.File:
		at, err := r.Seek(0, io.SeekCurrent)
		return r, 0, err == nil && at == 0
	}
	return nil, 0, false
}

// CopyFrom writes the size bytes of a reader to the beginning of an empty file, which has
// the holes of what the reader reads where that can be known (Place). A reader that has fewer is
// io.ErrUnexpectedEOF; it may have more.
func CopyFrom(dst *os.File, r io.Reader, size int64) error {
	if f, off, ok := Place(r); ok {
		return Copy(dst, f, off, size)
	}
	n, err := io.Copy(dst, io.LimitReader(r, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
