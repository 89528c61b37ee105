package grpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Stream is a call with any number of messages each way. Its methods are for one
// goroutine.
type Stream struct {
	ctx      context.Context //nolint:containedctx // of the call, which the stream is
	cancel   context.CancelCauseFunc
	patience time.Duration
	body     *io.PipeWriter
	head     chan struct{} // closed when the answer has begun
	resp     *http.Response
	err      error // why it has not; both are valid after head
}

// ErrEnded is the error of Send when the server takes no more: Receive says why.
var ErrEnded = errors.New("the call has ended")

// Open begins a call. The caller closes the stream.
func (c *Conn) Open(ctx context.Context, method string) *Stream {
	ctx, cancel := context.WithCancelCause(ctx)
	pr, pw := io.Pipe()
	s := &Stream{ctx: ctx, cancel: cancel, patience: c.patience, body: pw, head: make(chan struct{})}
	// The connection does not look at the context while it waits for something to send.
	context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer close(s.head)
		s.resp, s.err = c.start(ctx, method, pr)
		if s.err != nil {
			pr.CloseWithError(s.err)
		}
	}()
	return s
}

// watch ends the call unless what it returns is called in time.
func (s *Stream) watch() (done func()) {
	if s.patience == 0 {
		return func() {}
	}
	t := time.AfterFunc(s.patience, func() { s.cancel(silence(s.patience)) })
	return func() { t.Stop() }
}

// Send sends a message.
func (s *Stream) Send(msg []byte) error {
	defer s.watch()()
	if _, err := s.body.Write(Frame(msg)); err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, err)
	}
	return nil
}

// EndSending says that no message comes any more.
func (s *Stream) EndSending() { s.body.Close() } //nolint:errcheck // never fails

// Receive waits for a message; io.EOF is the end of the call with success. Errors are as
// those of Call.
func (s *Stream) Receive() ([]byte, error) {
	defer s.watch()()
	<-s.head
	if s.err != nil {
		return nil, s.err
	}
	return receive(s.ctx, s.resp)
}

// Exchange sends a message and waits for one. It is an error if the call ends instead.
func (s *Stream) Exchange(msg []byte) ([]byte, error) {
	// What cannot be sent was refused, and the answer says why.
	werr := s.Send(msg)
	answer, err := s.Receive()
	if err == io.EOF {
		err = errors.Join(fmt.Errorf("%w: the call ended early", ErrNotGRPC), werr)
	}
	return answer, err
}

// Close ends the call, if it has not come to its end yet, and waits for its goroutine.
func (s *Stream) Close() {
	s.cancel(context.Canceled)
	s.body.Close() //nolint:errcheck // never fails
	<-s.head
	if s.resp != nil {
		s.resp.Body.Close()
	}
}
