package reapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"layered.build/builder/cache/shared"
	"layered.build/builder/registry/grpc"
)

const (
	byteStream = "google.bytestream.ByteStream/"
	// chunk is how much of a blob is sent in one message.
	chunk = 1 << 20
)

// resource names a blob as ByteStream wants it. Segments are put before "blobs".
func (p *Place) resource(b shared.Blob, segments string) string {
	name := fmt.Sprintf("%sblobs/%s/%d", segments, b.Digest.Encoded(), b.Size)
	if p.instance != "" {
		name = p.instance + "/" + name
	}
	return name
}

// newUpload names an upload of a blob: by a UUID of version 4 (RFC 9562).
func (p *Place) newUpload(b shared.Blob) string {
	var u [16]byte
	rand.Read(u[:]) //nolint:errcheck // never fails
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return p.resource(b, fmt.Sprintf("uploads/%x-%x-%x-%x-%x/", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// upload sends a blob. Where it breaks off, it goes on with what the server has.
func (p *Place) upload(ctx context.Context, b shared.Blob, content shared.Content) error {
	name, offset, broken := p.newUpload(b), int64(0), false
	for n := 0; ; n++ {
		from, there, err := offset, int64(0), error(nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if broken {
			there, err = p.written(ctx, name)
			if err == nil && (there <= 0 || there > b.Size) {
				name, there = p.newUpload(b), 0
			}
			offset = there
		}
		if err == nil && there < b.Size {
			there, err = p.write(ctx, name, part{b, offset}, content)
		}
		if err == nil && there == b.Size {
			return nil
		}
		if err == nil {
			err = &grpc.Status{Code: grpc.Aborted, Text: fmt.Sprintf("it took %d of %d bytes", there, b.Size)}
		}
		misplaced := offset > 0 && isMisplaced(err)
		if offset >= from+chunk {
			n = 0 // it makes progress
		}
		if n >= attempts-1 || !misplaced && !isPassing(err) {
			return p.explain(err)
		}
		if err := p.wait(ctx, n, err); err != nil {
			return p.explain(err)
		}
		if broken = !misplaced; misplaced {
			name, offset = p.newUpload(b), 0
		}
	}
}

// isMisplaced reports whether a server does not go on where it said that it would.
func isMisplaced(err error) bool {
	switch grpc.CodeOf(err) {
	case grpc.InvalidArgument, grpc.OutOfRange, grpc.FailedPrecondition, grpc.NotFound:
		return true
	}
	return false
}

// part is what a blob has from an offset on.
type part struct {
	shared.Blob
	offset int64
}

// write makes the call that sends a part, and returns how much the server has of the blob.
func (p *Place) write(ctx context.Context, name string, b part, content shared.Content) (there int64, err error) {
	r, err := content(ctx, b.offset)
	if err != nil {
		return 0, &sourceError{err}
	}
	defer func() {
		if cerr := r.Close(); cerr != nil && err == nil {
			err = &sourceError{cerr}
		}
	}()
	s := p.conn.Open(ctx, byteStream+"Write")
	defer s.Close()
	buf := make([]byte, min(chunk, b.Size-b.offset))
	for offset := b.offset; offset < b.Size; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), b.Size-offset)])
		if err != nil {
			return 0, &sourceError{fmt.Errorf("after %d of %d bytes: %w", offset+int64(n), b.Size, err)}
		}
		msg := make(grpc.Message, 0, n+256)
		if offset == b.offset {
			msg = msg.Text(1, name)
		}
		msg = msg.Number(2, offset).Flag(3, offset+int64(n) == b.Size).Bytes(10, buf[:n])
		if err := s.Send(msg); errors.Is(err, grpc.ErrEnded) {
			break // the server has it already, or says why not
		}
		offset += int64(n)
	}
	s.EndSending()
	raw, err := s.Receive()
	if err == io.EOF {
		return 0, fmt.Errorf("%w: a call without an answer", grpc.ErrNotGRPC)
	}
	if err != nil {
		return 0, err
	}
	return readCommitted(raw)
}

// readCommitted reads the size in a WriteResponse or QueryWriteStatusResponse.
func readCommitted(raw []byte) (size int64, err error) {
	err = grpc.Read(raw, func(f grpc.Field) error {
		if f.Number == 1 {
			size = int64(f.Varint)
		}
		return nil
	})
	return size, err
}

// written asks how much of an upload a server has; 0 also if it cannot say.
func (p *Place) written(ctx context.Context, name string) (int64, error) {
	raw, err := p.conn.Call(ctx, byteStream+"QueryWriteStatus", grpc.Message(nil).Text(1, name))
	if err != nil {
		if c := grpc.CodeOf(err); c == grpc.OK || c == grpc.Unavailable {
			return 0, err
		}
		return 0, nil
	}
	return readCommitted(raw)
}

// download reads a blob from an offset.
func (p *Place) download(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	d := &download{p: p, s: p.conn.Open(ctx, byteStream+"Read"), left: b.Size - offset}
	err := d.s.Send(grpc.Message(nil).Text(1, p.resource(b, "")).Number(2, offset))
	if err == nil || errors.Is(err, grpc.ErrEnded) {
		d.s.EndSending()
		err = d.next()
	}
	if err != nil {
		d.s.Close()
		return nil, err
	}
	return d, nil
}

// download is a blob that is being read.
type download struct {
	p    *Place
	s    *grpc.Stream
	data []byte // of the last message
	left int64  // of the blob, without data
}

// maxEmpty is how many messages without data may follow each other.
const maxEmpty = 100

// next waits for more data, of which there has to be some.
func (d *download) next() error {
	for n := 0; len(d.data) == 0; n++ {
		raw, err := d.s.Receive()
		if err == io.EOF {
			err = fmt.Errorf("%d bytes are missing: %w", d.left, errDamaged)
		}
		if err == nil {
			err = grpc.Read(raw, func(f grpc.Field) error {
				if f.Number == 10 {
					d.data = f.Bytes
				}
				return nil
			})
		}
		switch {
		case err != nil:
		case int64(len(d.data)) > d.left:
			err = fmt.Errorf("there are more bytes than it has: %w", errDamaged)
		case n == maxEmpty:
			err = fmt.Errorf("%w: messages without data", grpc.ErrNotGRPC)
		}
		if err != nil {
			return err
		}
	}
	d.left -= int64(len(d.data))
	return nil
}

// Read implements io.Reader.
func (d *download) Read(b []byte) (int, error) {
	if len(d.data) == 0 {
		if d.left == 0 {
			return 0, io.EOF
		}
		if err := d.next(); err != nil {
			return 0, d.p.explain(err)
		}
	}
	n := copy(b, d.data)
	d.data = d.data[n:]
	return n, nil
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.s.Close()
	return nil
}
