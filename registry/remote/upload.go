package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/transport"
)

// begun is an upload that a registry has agreed to.
type begun struct {
	location string // where the blob goes
	mounted  bool   // nothing is to be sent
	least    int64  // the least size of a part, 0 if the registry wants none
}

// start begins an upload; the query asks for a mount instead.
func (r *Repository) start(ctx context.Context, query string) (b begun, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.s.URL("/blobs/uploads/"+query), http.NoBody)
	if err != nil {
		return b, err
	}
	resp, err := r.do(req, http.StatusAccepted, http.StatusCreated)
	if err != nil {
		return b, err
	}
	transport.Drain(resp)
	if resp.StatusCode == http.StatusCreated {
		return begun{mounted: true}, nil
	}
	b.least, _ = strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64)
	b.location, err = locationOf(resp)
	return b, err
}

func locationOf(resp *http.Response) (string, error) {
	u, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("the registry does not say where to send the blob: %w", err)
	}
	return u.String(), nil
}

// abandon ends an upload that is not needed, so that the registry need not wait
// for it. Registries that cannot do that clean up by themselves.
func (r *Repository) abandon(ctx context.Context, location string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, location, nil)
	if err != nil {
		return
	}
	if resp, err := r.s.Do(req); err == nil {
		transport.Drain(resp)
	}
}

// patch sends a part of a blob: size bytes from an offset on, or all that there are
// if size is negative. It returns where the next part goes.
func (r *Repository) patch(ctx context.Context, location string, body io.Reader, offset, size int64) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, location, io.NopCloser(body))
	if err != nil {
		return "", err
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if offset > 0 && size > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+size-1))
	}
	resp, err := r.do(req, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		return "", err
	}
	transport.Drain(resp)
	if resp.Header.Get("Location") == "" {
		return location, nil
	}
	return locationOf(resp)
}

// finish names what has been sent.
func (r *Repository) finish(ctx context.Context, location string, desc ocispec.Descriptor) error {
	u, err := url.Parse(location)
	if err != nil {
		return fmt.Errorf("upload location: %w: %w", errdef.ErrInvalid, err)
	}
	q := u.Query()
	q.Set("digest", desc.Digest.String())
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := r.do(req, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return err
	}
	transport.Drain(resp)
	if got := digest.Digest(resp.Header.Get("Docker-Content-Digest")); got != "" && got != desc.Digest {
		return fmt.Errorf("%w: the registry stored %s instead of %s", errdef.ErrBadDigest, got, desc.Digest)
	}
	return nil
}
