package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/grpc"
)

// The actions of a message of Content/Write.
const (
	actionStat   = 0
	actionWrite  = 1
	actionCommit = 2
)

// chunk is how much of a blob is sent in one message.
const chunk = 1 << 20

// maxPause is the longest wait for another process that sends the same blob.
const maxPause = 2 * time.Second

// writeRef is how containerd calls the beginning of a blob.
func writeRef(desc ocispec.Descriptor) string { return "builder-" + desc.Digest.String() }

// opener opens a blob's content from an offset on.
type opener func(ctx context.Context, offset int64) (io.ReadCloser, error)

// blob is what is to be sent.
type blob struct {
	desc   ocispec.Descriptor
	labels map[string]string
	open   opener
	seen   func(int64) // is told how much of it is there
}

// put sends a blob unless it is there, and returns how many bytes were sent. Half
// of a blob that an earlier call left is gone on with.
func (c *conn) put(ctx context.Context, b blob) (sent int64, err error) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, maxPause) {
		n, err := c.write(ctx, b)
		sent += n
		switch {
		case grpc.CodeOf(err) == grpc.AlreadyExists: // came from somebody else meanwhile
			return sent, c.label(ctx, b.desc.Digest, b.labels)
		case grpc.CodeOf(err) != grpc.Unavailable || !strings.Contains(err.Error(), "locked"):
			return sent, err
		}
		select {
		case <-ctx.Done():
			return sent, context.Cause(ctx)
		case <-time.After(pause):
		}
		there, err := c.has(ctx, b.desc.Digest)
		if err == nil && there {
			err = c.label(ctx, b.desc.Digest, b.labels)
		}
		if err != nil || there {
			return sent, err
		}
	}
}

// write makes the call that sends a blob.
func (c *conn) write(ctx context.Context, b blob) (sent int64, err error) {
	s := c.open(ctx, "content.v1.Content/Write")
	defer s.Close()
	sum := b.desc.Digest.String()
	begin := grpc.Message(nil).Number(1, actionStat).Text(2, writeRef(b.desc)).Number(3, b.desc.Size).Text(4, sum)
	offset, err := s.write(begin)
	if err != nil {
		return 0, err
	}
	if offset < b.desc.Size { // otherwise another namespace has it, or only the end is lacking
		if sent, err = s.content(ctx, b, offset); err != nil {
			return sent, err
		}
	}
	end := grpc.Message(nil).Number(1, actionCommit).Number(3, b.desc.Size).Text(4, sum).Number(5, b.desc.Size).Table(7, b.labels)
	if _, err = s.write(end); err != nil {
		if grpc.CodeOf(err) == grpc.FailedPrecondition || grpc.CodeOf(err) == grpc.Unknown {
			// It is not what it should be: nobody must go on with it.
			err = errors.Join(fmt.Errorf("%w: %w", registry.ErrBadDigest, err), c.abort(ctx, writeRef(b.desc)))
		}
		return sent, err
	}
	b.seen(b.desc.Size)
	return sent, nil
}

// write sends a message of Content/Write and returns the offset of the answer.
func (s stream) write(msg grpc.Message) (int64, error) {
	raw, err := s.Exchange(msg)
	if err != nil {
		return 0, err
	}
	fields, err := numbers(raw)
	return fields[4], err
}

// content sends what a blob has from an offset on.
func (s stream) content(ctx context.Context, b blob, offset int64) (sent int64, err error) {
	r, err := b.open(ctx, offset)
	if err != nil {
		return 0, &sourceError{err}
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buf := make([]byte, min(chunk, b.desc.Size-offset))
	for offset < b.desc.Size {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), b.desc.Size-offset)])
		if err != nil {
			return sent, &sourceError{fmt.Errorf("after %d of %d bytes: %w: %w", offset+int64(n), b.desc.Size, registry.ErrBadDigest, err)}
		}
		there, err := s.write(grpc.Message(nil).Number(1, actionWrite).Number(5, offset).Bytes(6, buf[:n]))
		if err != nil {
			return sent, err
		}
		sent += int64(n)
		if offset += int64(n); there != offset {
			return sent, fmt.Errorf("containerd has %d bytes instead of %d: %w", there, offset, io.ErrShortWrite)
		}
		if offset < b.desc.Size { // the end comes with the commit
			b.seen(offset)
		}
	}
	return sent, nil
}

// sourceError is a failure to read what is to be sent.
type sourceError struct{ err error }

// Error implements error.
func (e *sourceError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *sourceError) Unwrap() error { return e.err }
