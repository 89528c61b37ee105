package layout

import (
	"fmt"
	"io"

	"layered.build/builder/registry"
)

// What is wrong with an archive.
const (
	notArchive     = "it is no tar archive, nor a gzip or zstd of one"
	damagedArchive = "the archive is damaged or cut off"
)

// source is what an archive is read from. It knows whether a failure is its own, or of
// what was read.
type source struct {
	r   io.Reader
	err error // other than the end
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// blame makes a failure to understand what was read one of the archive, which says what is
// wrong with it. A failure to read stays what it is.
func (s *source) blame(err error, what string) error {
	if err == nil || err == io.EOF || s.err != nil {
		return err
	}
	return fmt.Errorf("%w: %s (%w)", registry.ErrInvalid, what, err)
}

// blaming reads a file of an archive.
type blaming struct {
	file io.Reader
	raw  *source
}

// Read implements io.Reader.
func (b blaming) Read(p []byte) (int, error) {
	n, err := b.file.Read(p)
	return n, b.raw.blame(err, damagedArchive)
}
