package source

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/sparse"
)

// spool holds contents of files that change, in one file without a name.
type spool struct {
	dir string // where the file is made

	mu   sync.Mutex // guards all below
	file *os.File   // nil: nothing is kept
	size int64
}

// close gives the contents up.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// append adds a piece and returns where it is.
func (s *spool) append(b []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		if s.dir != "" {
			if err := os.MkdirAll(s.dir, 0o755); err != nil {
				return 0, err
			}
		}
		f, err := os.CreateTemp(s.dir, "changing-")
		if err != nil {
			return 0, err
		}
		// Without a name, nothing is left however this process ends.
		if err := os.Remove(f.Name()); err != nil {
			return 0, errors.Join(err, f.Close())
		}
		s.file = f
	}
	at := s.size
	s.size += int64(len(b))
	_, err := s.file.WriteAt(b, at)
	return at, err
}

// kept is a content in a spool. It is written by one goroutine, and then read by any.
type kept struct {
	s      *spool
	pieces []piece
}

type piece struct{ at, len int64 }

// newKept begins a content in the tree's spool.
func (t *Tree) newKept() (*kept, error) { return &kept{s: &t.spool}, nil }

// Write implements io.Writer.
func (k *kept) Write(b []byte) (int, error) {
	at, err := k.s.append(b)
	if err != nil {
		return 0, fmt.Errorf("keep a file that changes: %w", err)
	}
	if n := len(k.pieces); n > 0 && k.pieces[n-1].at+k.pieces[n-1].len == at {
		k.pieces[n-1].len += int64(len(b))
	} else {
		k.pieces = append(k.pieces, piece{at, int64(len(b))})
	}
	return len(b), nil
}

// open reads the content from its beginning.
func (k *kept) open() io.ReadCloser {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	var parts []io.Reader
	for _, p := range k.pieces {
		parts = append(parts, io.NewSectionReader(k.s.file, p.at, p.len))
	}
	return io.NopCloser(io.MultiReader(parts...))
}

// restore finds the content that a file was hashed with in what it is now, and keeps it.
// It fails with snapshot.ErrChanged if that is lost.
func (t *Tree) restore(n *node, f *os.File) (io.ReadCloser, error) {
	e, stat := t.view(n)
	k, err := t.newKept()
	if err != nil {
		return nil, err
	}
	sum := sparse.New()
	if _, err := io.Copy(io.MultiWriter(sum, k), io.LimitReader(f, e.Size)); err != nil {
		return nil, err
	}
	if sum.Digest() != e.Digest {
		return nil, fmt.Errorf("/%s %w", e.Path, snapshot.ErrChanged)
	}
	if now, err := regular(f); err != nil || now.size != stat.size {
		t.tell(e.Path)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n.kept = k
	return k.open(), nil
}

// tell reports, once, that a file is taken as it was read.
func (t *Tree) tell(p string) {
	t.mu.Lock()
	first := !t.told[p]
	t.told[p] = true
	t.mu.Unlock()
	if first && t.changed != nil {
		t.changed(p)
	}
}

// Renew forgets what the files are: they will be looked at again. From now on the content
// of each that is not known from earlier times is kept when it is read, so that it cannot
// be lost. Nobody may be reading the tree.
func (t *Tree) Renew() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dirs, t.careful = map[string]*dirNode{}, true
}
