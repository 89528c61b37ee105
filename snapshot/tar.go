package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Tar returns the exact uncompressed tar of a layer; its digest is the DiffID,
// and a read that would end with another digest fails instead. The caller closes
// it.
func (s *Store) Tar(ctx context.Context, l Layer) (io.ReadCloser, error) {
	if err := s.ensure(ctx, Stack{l}, false); err != nil {
		return nil, err
	}
	rec, err := s.loadLayer(l.ID)
	if err != nil {
		return nil, err
	}
	r, err := s.openTar(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("tar of layer %s: %w", l.ID, err)
	}
	return &verifier{r: r, h: sha256.New(), want: digest.Digest(rec.Layer.DiffID)}, nil
}

func (s *Store) openTar(ctx context.Context, rec *layerRecord) (io.ReadCloser, error) {
	id := rec.Layer.ID
	if f, err := os.Open(s.layerPath(id, tarForm)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	idx, err := openIndex(s.layerPath(id, manifestFile))
	if err != nil {
		return nil, err
	}
	return produce(ctx, func(ctx context.Context, w io.Writer) error {
		if rec.Foreign {
			return assemble(ctx, s.layerPath(id), w)
		}
		return s.packDir(ctx, idx, s.layerPath(id, dirForm), w)
	}), nil
}

// packDir makes the canonical tar of a directory that has a manifest.
func (s *Store) packDir(ctx context.Context, idx *index, dir string, w io.Writer) error {
	p := &packer{maker: &s.maker, out: w}
	_, err := p.run(ctx, func(_ context.Context, emit func(packItem) error) error {
		for i := range idx.len() {
			r, err := idx.record(i)
			if err != nil {
				return err
			}
			if err := emit(packItem{rec: *r, host: filepath.Join(dir, r.Path)}); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// produce runs fn in a goroutine and lets its output be read. Close ends it.
func produce(ctx context.Context, fn func(context.Context, io.Writer) error) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	p := &producer{PipeReader: pr, cancel: cancel}
	p.wg.Go(func() { pw.CloseWithError(fn(ctx, pw)) })
	return p
}

type producer struct {
	*io.PipeReader
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Close implements io.Closer; it waits for the producing goroutine.
func (p *producer) Close() error {
	p.cancel()
	err := p.PipeReader.Close()
	p.wg.Wait()
	return err
}

// verifier fails at the end of a stream that has another digest.
type verifier struct {
	r    io.ReadCloser
	h    hash.Hash
	want digest.Digest
}

// Read implements io.Reader.
func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.h.Write(p[:n])
	if err == io.EOF {
		if got := digest.NewDigest(digest.SHA256, v.h); got != v.want {
			return n, fmt.Errorf("layer data is damaged: its tar is %s, not %s", got, v.want)
		}
	}
	return n, err
}

// Close implements io.Closer.
func (v *verifier) Close() error { return v.r.Close() }
