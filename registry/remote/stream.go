package remote

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/transport"
)

// Stream is the upload of a blob that is being made. It is ended by Finish or GiveUp.
type Stream struct {
	// stop ends what is sent: with io.EOF, or because there will be no blob.
	stop func(error)
	// cancel ends the request that sends it.
	cancel context.CancelCauseFunc
	done   chan struct{}

	// Valid when done is closed:
	r        *Repository
	up       begun
	location string
	err      error
}

// StartStream begins an upload, in the background, of what content gives, which stop ends. It
// goes to the repository that open returns; closed is called when nothing is read any
// more, with the error if there is one.
func StartStream(ctx context.Context, open func() (*Repository, error), content io.Reader, stop, closed func(error)) *Stream {
	sending, cancel := context.WithCancelCause(ctx)
	s := &Stream{stop: stop, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer cancel(nil)
		if s.r, s.err = open(); s.err == nil && s.r.s.OnlyWhole.Load() {
			s.err = errOnlyWhole
		}
		if s.err == nil {
			s.up, s.err = s.r.start(ctx, "")
		}
		if s.err == nil {
			all := body{size: -1, once: true, open: func() (io.ReadCloser, error) { return io.NopCloser(content), nil }}
			s.location, s.err = s.r.patch(sending, s.up.location, all, 0)
		}
		closed(s.err)
	}()
	return s
}

// Finish ends the upload of what has been made, the blob of desc, which again reads. What
// broke meanwhile goes on from there.
func (s *Stream) Finish(ctx context.Context, desc ocispec.Descriptor, again Opener) error {
	s.stop(io.EOF)
	<-s.done
	err := s.err
	if err == nil {
		err = s.r.finish(ctx, s.location, desc, noBody)
	}
	if err == nil || ctx.Err() != nil || s.r == nil || !transport.IsPassing(err) && !s.r.s.OnlyWhole.Load() && !isMoved(err) {
		return err
	}
	u := &uploading{r: s.r, desc: desc, open: again}
	u.location, u.least, u.unsure = s.up.location, s.up.least, transport.IsPassing(err)
	return u.run(ctx)
}

// GiveUp ends the upload of what will be no blob; err says why.
func (s *Stream) GiveUp(ctx context.Context, err error) {
	s.stop(err)
	s.cancel(err) // a registry that takes nothing more would be waited for
	<-s.done
	if s.up.location != "" && ctx.Err() == nil {
		s.r.abandon(ctx, s.up.location)
	}
}
