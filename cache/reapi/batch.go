package reapi

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/registry/grpc"
)

// blob is a content in memory.
type blob struct {
	digest digest.Digest
	data   []byte
}

func newBlob(data []byte) blob { return blob{digest.FromBytes(data), data} }

// message is its Digest.
func (b blob) message() grpc.Message { return digestMessage(b.digest, int64(len(b.data))) }

// updateBatch stores blobs that together fit in one call.
func (p *Place) updateBatch(ctx context.Context, blobs []blob) error {
	msg := grpc.Message(nil).Text(1, p.instance)
	n := 0
	for _, b := range blobs {
		if len(b.data) > 0 { // what is empty is everywhere
			msg = msg.Sub(2, grpc.Message(nil).Sub(1, b.message()).Bytes(2, b.data))
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return p.again(ctx, func() error {
		raw, err := p.conn.Call(ctx, services+"ContentAddressableStorage/BatchUpdateBlobs", msg)
		if err != nil {
			return err
		}
		left := n
		err = grpc.Read(raw, func(f grpc.Field) error {
			if f.Number != 1 {
				return nil
			}
			left--
			return grpc.Read(f.Bytes, func(f grpc.Field) error {
				if f.Number != 2 {
					return nil
				}
				return readStatus(f.Bytes)
			})
		})
		if err == nil && left > 0 {
			err = fmt.Errorf("%w: nothing is said of %d blobs", grpc.ErrNotGRPC, left)
		}
		return err
	})
}

// readBatch reads a small blob in one message.
func (p *Place) readBatch(ctx context.Context, b shared.Blob) (data []byte, err error) {
	msg := grpc.Message(nil).Text(1, p.instance).Sub(2, digestMessage(b.Digest, b.Size))
	raw, err := p.conn.Call(ctx, services+"ContentAddressableStorage/BatchReadBlobs", msg)
	if err != nil {
		return nil, err
	}
	err = grpc.Read(raw, func(f grpc.Field) error {
		if f.Number != 1 {
			return nil
		}
		return grpc.Read(f.Bytes, func(f grpc.Field) error {
			switch f.Number {
			case 2:
				data = f.Bytes
			case 3:
				return readStatus(f.Bytes)
			}
			return nil
		})
	})
	if err == nil && int64(len(data)) != b.Size {
		err = fmt.Errorf("the server gives %d of %d bytes: %w", len(data), b.Size, errDamaged)
	}
	return data, err
}

// readStatus reads a google.rpc.Status.
func readStatus(raw []byte) error {
	s := &grpc.Status{}
	err := grpc.Read(raw, func(f grpc.Field) error {
		switch f.Number {
		case 1:
			s.Code = grpc.Code(int32(f.Varint))
		case 2:
			s.Text = string(f.Bytes)
		}
		return nil
	})
	if err != nil || s.Code == grpc.OK {
		return err
	}
	return s
}
