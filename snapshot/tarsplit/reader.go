package tarsplit

import "io"

// Reader passes the stream of a tar on and keeps in a tarsplit what is read of it.
type Reader struct {
	r io.Reader
	w *Writer
	// Keep is false while the content of a file is read that is left out.
	Keep bool
}

// NewReader returns a reader that keeps what is read; Keep is set.
func NewReader(r io.Reader, w *Writer) *Reader {
	return &Reader{r: r, w: w, Keep: true}
}

// Read implements io.Reader.
func (s *Reader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if s.Keep {
		s.w.bytes(p[:n])
	}
	return n, err
}
