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

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tarsplit"
)

// Tar returns the exact uncompressed tar of a layer; its digest is the DiffID, if the
// layer has a name, and a read that would end with another digest fails instead. The caller closes
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
	return r, nil
}

func (s *Store) openTar(ctx context.Context, rec *layerRecord) (io.ReadCloser, error) {
	id := rec.Layer.ID
	want, err := s.diffID(ctx, rec)
	if err != nil {
		return nil, err
	}
	verified := func(r io.ReadCloser) io.ReadCloser {
		return &verifier{r: r, h: sha256.New(), want: digest.Digest(want)}
	}
	if f, err := os.Open(s.layerPath(id, tarForm)); err == nil {
		return verified(f), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	idx, err := manifest.Open(s.layerPath(id, manifestFile))
	if err != nil {
		return nil, err
	}
	if rec.Foreign {
		return verified(produce(ctx, func(ctx context.Context, w io.Writer) error {
			return tarsplit.Assemble(ctx, tarsplit.Forms{Split: s.layerPath(id, splitFile), Dir: s.layerPath(id, dirForm), Dup: s.layerPath(id, dupForm)}, w)
		})), nil
	}
	return produce(ctx, func(ctx context.Context, w io.Writer) error {
		got, err := s.packDir(ctx, idx, s.layerPath(id, dirForm), w)
		if err == nil {
			err = damage(digest.Digest(got), digest.Digest(want))
		}
		return err
	}), nil
}

// packDir makes the canonical tar of a directory that has a manifest.
func (s *Store) packDir(ctx context.Context, idx *manifest.Index, dir string, w io.Writer) (DiffID, error) {
	out, err := pack.Run(ctx, pack.Target{Maker: s.maker, Out: w}, func(_ context.Context, emit func(pack.Item) error) error {
		for i := range idx.Len() {
			r, err := idx.Record(i)
			if err != nil {
				return err
			}
			if err := emit(pack.Item{Record: *r, Host: filepath.Join(dir, r.Path)}); err != nil {
				return err
			}
		}
		return nil
	})
	return DiffID(out.Digest), err
}

// damage is the error of a tar that is another than it was.
func damage(got, want digest.Digest) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("layer data is damaged: its tar is %s, not %s", got, want)
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
		if bad := damage(digest.NewDigest(digest.SHA256, v.h), v.want); bad != nil {
			return n, bad
		}
	}
	return n, err
}

// Close implements io.Closer.
func (v *verifier) Close() error { return v.r.Close() }
