package reapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared"
	"layered.build/builder/registry/grpc"
)

const (
	// indexPath is the output file that is the index; the blobs are below blobPath.
	indexPath = "index"
	blobPath  = "blobs/"
	// maxIndex is how large an index may be.
	maxIndex = 256 << 20
	// maxBlobs is how many blobs a result names, so that it is smaller than gRPC's
	// libraries take as one message.
	maxBlobs = 20_000
)

// action returns the action whose result is the index of a scope, and its command. Some
// servers have the results of all instances in one place, so the instance is part of it.
func (p *Place) action(scope string, more ...string) (action, command blob) {
	cmd := grpc.Message(nil)
	for _, arg := range append([]string{"builder", "cache", "1", p.instance, scope}, more...) {
		cmd = cmd.Sub(1, []byte(arg))
	}
	command = newBlob(cmd)
	root := blob{digest: digest.FromBytes(nil)} // an empty folder
	return newBlob(grpc.Message(nil).Sub(1, command.message()).Sub(2, root.message())), command
}

// Index implements shared.Indexes. The version is the digest of the index. What is damaged
// is an index without content, so that it can be replaced.
func (p *Place) Index(ctx context.Context, scope string) (data []byte, version string, err error) {
	var index shared.Blob
	act, _ := p.action(scope)
	err = p.again(ctx, func() error {
		index, data, err = p.result(ctx, act, indexPath)
		return err
	})
	switch {
	case err != nil:
	case index.Size > maxIndex:
		err = fmt.Errorf("it has %d bytes, more than %d", index.Size, maxIndex)
	case int64(len(data)) != index.Size || digest.FromBytes(data) != index.Digest: // it was not given at once
		data, err = p.readIndex(ctx, index)
	}
	if errors.Is(err, errDamaged) {
		return nil, index.Digest.String(), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", indexName(scope), err)
	}
	return data, index.Digest.String(), nil
}

// indexName names an index for people.
func indexName(scope string) string {
	if scope == "" {
		return "the index"
	}
	return fmt.Sprintf("the index of scope %q", scope)
}

// result asks once for the index that a result names. Inline is its content, if the server
// gives it at once; it is asked for by its path.
func (p *Place) result(ctx context.Context, act blob, path string) (index shared.Blob, inline []byte, err error) {
	msg := grpc.Message(nil).Text(1, p.instance).Sub(2, act.message()).Text(5, path)
	raw, err := p.conn.Call(ctx, services+"ActionCache/GetActionResult", msg)
	if err != nil {
		return index, nil, err
	}
	err = grpc.Read(raw, func(f grpc.Field) error {
		if f.Number != 2 {
			return nil
		}
		path, sum, contents := "", []byte(nil), []byte(nil)
		err := grpc.Read(f.Bytes, func(f grpc.Field) error { // OutputFile
			switch f.Number {
			case 1:
				path = string(f.Bytes)
			case 2:
				sum = f.Bytes
			case 5:
				contents = f.Bytes
			}
			return nil
		})
		if err == nil && path == indexPath {
			inline = contents
			index.Digest, index.Size, err = readDigest(sum)
		}
		return err
	})
	if err == nil && index.Digest == "" {
		err = fmt.Errorf("the result names no index: %w", fs.ErrNotExist)
	}
	return index, inline, err
}

// readIndex reads and verifies an index. Where that breaks off, it goes on.
func (p *Place) readIndex(ctx context.Context, b shared.Blob) (data []byte, err error) {
	for n := 0; ; n++ {
		from := len(data)
		if data, err = p.readOn(ctx, b, data); err == nil {
			break
		}
		if len(data) >= from+chunk {
			n = 0 // it makes progress
		}
		if n >= attempts-1 || !isPassing(err) {
			return nil, p.explain(err)
		}
		if err := p.wait(ctx, n, err); err != nil {
			return nil, p.explain(err)
		}
	}
	if digest.FromBytes(data) != b.Digest {
		return nil, errDamaged
	}
	return data, nil
}

// readOn reads the rest of a blob behind what is known of it.
func (p *Place) readOn(ctx context.Context, b shared.Blob, data []byte) ([]byte, error) {
	r, err := p.open(ctx, b, int64(len(data)))
	if err != nil {
		return data, err
	}
	defer r.Close()
	more, err := io.ReadAll(r)
	return append(data, more...), err
}

// version is that of the index that an action's result names now; "" is none.
func (p *Place) version(ctx context.Context, act blob) (version string, err error) {
	var index shared.Blob
	err = p.again(ctx, func() error {
		index, _, err = p.result(ctx, act, "")
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return index.Digest.String(), err
}

// Replace implements shared.Indexes. The API has no conditions: that the index is of the
// version is looked at immediately before it is overwritten, and after that whether somebody
// else is about to.
func (p *Place) Replace(ctx context.Context, scope string, data []byte, blobs []shared.Blob, version string) error {
	if err := p.replace(ctx, scope, data, blobs, version); err != nil {
		if grpc.CodeOf(err) == grpc.PermissionDenied {
			err = fmt.Errorf("%w: %w", errReadOnly, err)
		}
		return fmt.Errorf("write %s: %w", indexName(scope), err)
	}
	return nil
}

// writer is the last argument of the action whose result names the index that somebody is
// about to write.
const writer = "writer"

func (p *Place) replace(ctx context.Context, scope string, data []byte, blobs []shared.Blob, version string) error {
	index := shared.Blob{Descriptor: ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}}
	if err := p.storeIndex(ctx, scope, index, data); err != nil {
		return err
	}
	act, _ := p.action(scope)
	announced, _ := p.action(scope, writer)
	if err := p.update(ctx, announced, index, nil); err != nil {
		return err
	}
	now, err := p.version(ctx, act)
	if err == nil && now != version {
		err = p.conflict(ctx, scope, now, version)
	}
	if err == nil {
		err = p.updateWhole(ctx, act, index, blobs)
	}
	if err != nil {
		return err
	}
	// Whoever has announced another index since may have looked before this one was written,
	// and overwrite it.
	now, err = p.version(ctx, announced)
	if err == nil && now != "" && now != index.Digest.String() {
		err = fmt.Errorf("%w: somebody else writes %s", shared.ErrConflict, now)
	}
	return err
}

// updateWhole is update; if the server has forgotten some of the blobs the result does not
// name them.
func (p *Place) updateWhole(ctx context.Context, act blob, index shared.Blob, blobs []shared.Blob) error {
	err := p.update(ctx, act, index, blobs)
	if grpc.CodeOf(err) != grpc.FailedPrecondition {
		return err
	}
	missing, merr := p.Missing(ctx, blobs)
	if merr != nil || len(missing) == 0 {
		return errors.Join(err, merr)
	}
	return p.update(ctx, act, index, without(blobs, missing))
}

// conflict is the error for an index that is not of the version that was read, unless its
// content is gone: then it was read as none.
func (p *Place) conflict(ctx context.Context, scope, now, version string) error {
	if version == "" {
		_, _, err := p.Index(ctx, scope)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it is %s", shared.ErrConflict, now)
}

// storeIndex stores an index, and what results are those of: servers may want to see that.
func (p *Place) storeIndex(ctx context.Context, scope string, index shared.Blob, data []byte) error {
	batch, size := make([]blob, 4), index.Size
	batch[0], batch[1] = p.action(scope)
	batch[2], batch[3] = p.action(scope, writer)
	for _, b := range batch {
		size += int64(len(b.data))
	}
	l, err := p.learn(ctx)
	switch {
	case err != nil:
		return err
	case !l.update:
		return errReadOnly
	case size <= l.whole():
		return p.updateBatch(ctx, append(batch, blob{index.Digest, data}))
	}
	err = p.store(ctx, index, func(_ context.Context, offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	})
	if err == nil {
		err = p.updateBatch(ctx, batch[:2])
	}
	if err == nil {
		err = p.updateBatch(ctx, batch[2:])
	}
	return err
}

// update writes the result of an action. Of very many blobs it names those that the
// index names last, which are the newest.
func (p *Place) update(ctx context.Context, act blob, index shared.Blob, blobs []shared.Blob) error {
	result := outputFile(nil, indexPath, index)
	seen := map[digest.Digest]bool{}
	for _, b := range blobs[max(0, len(blobs)-maxBlobs):] {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			result = outputFile(result, blobPath+b.Digest.Encoded(), b)
		}
	}
	msg := grpc.Message(nil).Text(1, p.instance).Sub(2, act.message()).Sub(3, result)
	_, err := p.call(ctx, services+"ActionCache/UpdateActionResult", msg)
	return err
}

// outputFile adds an OutputFile to an ActionResult.
func outputFile(result grpc.Message, path string, b shared.Blob) grpc.Message {
	return result.Sub(2, grpc.Message(nil).Text(1, path).Sub(2, digestMessage(b.Digest, b.Size)))
}

// without are the blobs that are not among others.
func without(blobs, others []shared.Blob) (out []shared.Blob) {
	gone := map[digest.Digest]bool{}
	for _, b := range others {
		gone[b.Digest] = true
	}
	for _, b := range blobs {
		if !gone[b.Digest] {
			out = append(out, b)
		}
	}
	return out
}
