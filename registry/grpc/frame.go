package grpc

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
)

// maxMessage bounds what a server may answer in one message: containerd's own bound, and
// four times what gRPC's libraries take.
const maxMessage = 16 << 20

// Frame puts the head of a message before it: not compressed, and its length.
func Frame(msg []byte) []byte {
	head := make([]byte, 5, 5+len(msg))
	binary.BigEndian.PutUint32(head[1:], uint32(len(msg)))
	return append(head, msg...)
}

// ReadFrame reads the next message; io.EOF is the end. Errors match ErrNotGRPC if it is
// none.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != 0 || binary.BigEndian.Uint32(head[1:]) > maxMessage {
		return nil, fmt.Errorf("%w: a message with the head %x", ErrNotGRPC, head)
	}
	msg := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(r, msg); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return msg, nil
}

// receive reads the next message of an answer; io.EOF is its end with success.
func receive(ctx context.Context, resp *http.Response) ([]byte, error) {
	msg, err := ReadFrame(resp.Body)
	switch {
	case err == nil:
		return msg, nil
	case err == io.EOF:
		return nil, status(resp)
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case isNotGRPC(err):
		return nil, err
	}
	return nil, fmt.Errorf("the connection broke: %w", err)
}
