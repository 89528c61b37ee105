package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/shared"
)

const (
	// maxParts is how many parts an object may have: S3's limit.
	maxParts = 10_000
	// partsAtOnce is how many parts of one blob are sent at once.
	partsAtOnce = 4
	// abortTime is how long the parts of what failed are being forgotten.
	abortTime = 10 * time.Second
)

// Store implements shared.Blobs. Blobs that are larger than a part are sent in parts, of
// which only few are in memory; of a content that is not what was promised nothing remains.
func (p *Place) Store(ctx context.Context, b shared.Blob, content shared.Content) error {
	if err := take(ctx, p.stores); err != nil {
		return err
	}
	defer func() { <-p.stores }()
	r, err := content(ctx, 0)
	if err != nil {
		return fmt.Errorf("store blob %s: %w", b.Digest, err)
	}
	s := &storing{place: p, blob: b, key: p.layout.blob(b.Digest), r: r, verify: b.Digest.Verifier()}
	if b.Size <= int64(p.o.Part) {
		err = s.whole(ctx)
	} else {
		err = s.inParts(ctx)
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err := errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("store blob %s: %w", b.Digest, err)
	}
	p.see(b.Digest, time.Now())
	return nil
}

func take(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// storing is one blob on its way.
type storing struct {
	place  *Place
	blob   shared.Blob
	key    string
	r      io.Reader
	verify interface {
		io.Writer
		Verified() bool
	}
	left int64
}

func (s *storing) whole(ctx context.Context) error {
	if err := take(ctx, s.place.parts); err != nil {
		return err
	}
	defer func() { <-s.place.parts }()
	s.left = s.blob.Size
	data, err := s.next(int(s.blob.Size))
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return err
	}
	return s.place.bucket.Put(ctx, s.key, Put{Data: data})
}

// next reads so many bytes, or what is left.
func (s *storing) next(size int) ([]byte, error) {
	data := make([]byte, min(int64(size), s.left))
	if _, err := io.ReadFull(s.r, data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read the content: %w", err)
	}
	s.left -= int64(len(data))
	_, err := s.verify.Write(data)
	return data, err
}

// end makes sure that the content ends, and that it is what was promised.
func (s *storing) end() error {
	if n, err := io.ReadFull(s.r, make([]byte, 1)); n > 0 {
		return fmt.Errorf("the content has more than %d bytes", s.blob.Size)
	} else if err != io.EOF {
		return fmt.Errorf("read the content: %w", err)
	}
	if !s.verify.Verified() {
		return errors.New("the content has another digest")
	}
	return nil
}

func (s *storing) inParts(ctx context.Context) (err error) {
	up, err := s.place.bucket.Upload(ctx, s.key)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		err = errors.Join(err, up.Abort(late))
	}()
	size := max(s.place.o.Part, int((s.blob.Size+maxParts-1)/maxParts))
	n, err := s.send(ctx, up, size)
	if err != nil {
		return err
	}
	if err := s.end(); err != nil {
		return err
	}
	if err := up.Complete(ctx, n); err != nil {
		return s.completed(ctx, err)
	}
	return nil
}

// send sends the parts and returns how many there are.
func (s *storing) send(ctx context.Context, up Upload, size int) (int, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	n := 0
	var failed error
	for s.left = s.blob.Size; s.left > 0 && failed == nil; n++ {
		if failed = take(ctx, s.place.parts); failed != nil {
			break
		}
		var data []byte
		if data, failed = s.next(size); failed != nil {
			<-s.place.parts
			break
		}
		at := n
		g.Go(func() error {
			defer func() { <-s.place.parts }()
			return up.Part(ctx, at, data)
		})
	}
	if err := g.Wait(); err != nil {
		return n, err // what failed above may only be that this ended
	}
	return n, failed
}

// completed makes a success of an error if the blob is there all the same: the first answer
// was lost, or somebody else wrote it.
func (s *storing) completed(ctx context.Context, err error) error {
	if missing, merr := s.place.Missing(ctx, []shared.Blob{s.blob}); merr == nil && len(missing) == 0 {
		return nil
	}
	return err
}
