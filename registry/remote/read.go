package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/transport"
)

// maxManifest limits what is read into memory.
const maxManifest = 4 << 20

// GetManifest reads a manifest or index, and the media type that it is served with. It is
// verified as far as want says what it is, or the registry.
func GetManifest(ctx context.Context, s *transport.Session, tag string, want ocispec.Descriptor) ([]byte, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL("/manifests/"+tag), nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Accept", mediatype.Accept)
	resp, err := s.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer transport.Drain(resp)
	if resp.StatusCode != http.StatusOK {
		return nil, "", transport.ResponseError(resp)
	}
	raw, err := readDocument(resp, maxManifest)
	if err != nil {
		return nil, "", err
	}
	if want.Digest == "" {
		want.Digest = told(resp)
	}
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return raw, mediaType, image.Verify(raw, want)
}

// GetBlob starts to read a blob at an offset. The caller closes it, and verifies it.
func GetBlob(ctx context.Context, s *transport.Session, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return GetURL(ctx, s, s.URL("/blobs/"+desc.Digest.String()), offset, desc.Size)
}

// GetURL starts to read, at an offset, what has a size; the caller closes it.
func GetURL(ctx context.Context, s *transport.Session, where string, offset, size int64) (io.ReadCloser, error) {
	resp, err := get(ctx, s, where, offset, size)
	if err != nil {
		return nil, err
	}
	part := offset > 0 && resp.StatusCode == http.StatusPartialContent
	if part && isEncoded(resp, size) { // it is a part of what is encoded
		resp.Body.Close()
		if resp, err = get(ctx, s, where, 0, size); err != nil {
			return nil, err
		}
		part = false
	}
	switch {
	case part:
		want := fmt.Sprintf("bytes %d-", offset)
		if r := resp.Header.Get("Content-Range"); !strings.HasPrefix(r, want) {
			resp.Body.Close()
			return nil, fmt.Errorf("asked for %q, got Content-Range %q", want, r)
		}
		return resp.Body, nil
	case resp.StatusCode == http.StatusOK:
		body := resp.Body
		if isEncoded(resp, size) {
			if body, err = decoded(encodingOf(resp), body); err != nil {
				return nil, err
			}
		}
		// A server without ranges sends all of it.
		if _, err := io.CopyN(io.Discard, body, offset); err != nil {
			return nil, errors.Join(err, body.Close())
		}
		return body, nil
	}
	defer transport.Drain(resp)
	return nil, transport.ResponseError(resp)
}

func get(ctx context.Context, s *transport.Session, where string, offset, size int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, size-1))
	}
	return s.Do(req)
}

// ReadLimited reads all of what is at most so many bytes. Errors match errdef.ErrInvalid
// if it is longer.
func ReadLimited(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%w: longer than %d bytes", errdef.ErrInvalid, limit)
	}
	return raw, err
}
