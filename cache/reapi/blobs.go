package reapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache/shared"
	"layered.build/builder/registry/grpc"
)

// maxAsked is how many blobs are asked for in one call, so that it and its answer are
// smaller than gRPC's libraries allow.
const maxAsked = 10_000

// errAlgorithm says that a blob cannot be there.
var errAlgorithm = errors.New("only sha256 is known")

// digestMessage is a Digest.
func digestMessage(d digest.Digest, size int64) grpc.Message {
	return grpc.Message(nil).Text(1, d.Encoded()).Number(2, size)
}

// readDigest reads a Digest.
func readDigest(raw []byte) (d digest.Digest, size int64, err error) {
	err = grpc.Read(raw, func(f grpc.Field) error {
		switch f.Number {
		case 1:
			d = digest.NewDigestFromEncoded(digest.SHA256, string(f.Bytes))
		case 2:
			size = int64(f.Varint)
		}
		return nil
	})
	if err == nil && (d.Validate() != nil || size < 0) {
		err = fmt.Errorf("%w: a digest that is none", grpc.ErrNotGRPC)
	}
	return d, size, err
}

// Missing implements shared.Blobs. Servers keep what is asked for a while longer.
func (p *Place) Missing(ctx context.Context, blobs []shared.Blob) ([]shared.Blob, error) {
	asked := map[digest.Digest]shared.Blob{}
	var order []shared.Blob
	for _, b := range blobs {
		if b.Digest.Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("%s: %w", b.Digest, errAlgorithm)
		}
		if _, ok := asked[b.Digest]; !ok && b.Size > 0 { // what is empty is everywhere
			asked[b.Digest] = b
			order = append(order, b)
		}
	}
	var out []shared.Blob
	for len(order) > 0 {
		part := order[:min(len(order), maxAsked)]
		order = order[len(part):]
		msg := grpc.Message(nil).Text(1, p.instance)
		for _, b := range part {
			msg = msg.Sub(2, digestMessage(b.Digest, b.Size))
		}
		raw, err := p.call(ctx, services+"ContentAddressableStorage/FindMissingBlobs", msg)
		if err == nil {
			err = grpc.Read(raw, func(f grpc.Field) error {
				if f.Number != 2 {
					return nil
				}
				d, _, err := readDigest(f.Bytes)
				if b, ok := asked[d]; ok {
					out = append(out, b)
					delete(asked, d)
				}
				return err
			})
		}
		if err != nil {
			return nil, fmt.Errorf("ask which blobs are missing: %w", err)
		}
	}
	return out, nil
}

// Store implements shared.Blobs.
func (p *Place) Store(ctx context.Context, b shared.Blob, content shared.Content) error {
	if err := p.store(ctx, b, content); err != nil {
		return fmt.Errorf("store %s: %w", b.Digest, err)
	}
	return nil
}

func (p *Place) store(ctx context.Context, b shared.Blob, content shared.Content) error {
	if b.Digest.Algorithm() != digest.SHA256 {
		return errAlgorithm
	}
	l, err := p.learn(ctx)
	switch {
	case err != nil:
		return err
	case !l.update: // blobs that no index names are of no use
		return errReadOnly
	case l.largest > 0 && b.Size > l.largest:
		return fmt.Errorf("it has %d bytes, the server takes %d", b.Size, l.largest)
	case b.Size > l.whole():
		return p.upload(ctx, b, content)
	}
	data, err := readWhole(ctx, b, content)
	if err != nil {
		return err
	}
	return p.updateBatch(ctx, []blob{{b.Digest, data}})
}

// readWhole reads a small blob and verifies it.
func readWhole(ctx context.Context, b shared.Blob, content shared.Content) ([]byte, error) {
	r, err := content(ctx, 0)
	if err != nil {
		return nil, &sourceError{err}
	}
	data, err := io.ReadAll(io.LimitReader(r, b.Size+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, &sourceError{err}
	}
	if digest.FromBytes(data) != b.Digest {
		return nil, &sourceError{errDamaged}
	}
	return data, nil
}

// Open implements shared.Blobs.
func (p *Place) Open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	r, err := p.open(ctx, b, offset)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", b.Digest, p.explain(err))
	}
	return r, nil
}

func (p *Place) open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	if b.Digest.Algorithm() != digest.SHA256 {
		return nil, fs.ErrNotExist
	}
	if offset >= b.Size {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	l, err := p.learn(ctx)
	if err != nil {
		return nil, err
	}
	if b.Size > l.whole() {
		return p.download(ctx, b, offset)
	}
	data, err := p.readBatch(ctx, b)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data[offset:])), nil
}
