package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

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

// body is what a request sends. It is opened anew when it has to be sent again: to where
// the registry redirects to, or after it has asked for a login.
type body struct {
	size int64 // negative: not known
	open func() (io.ReadCloser, error)
	// once says that it can only be opened once.
	once bool
}

var noBody = body{open: func() (io.ReadCloser, error) { return http.NoBody, nil }}

func (b body) request(ctx context.Context, method, location string) (*http.Request, error) {
	content, err := b.open()
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, location, content)
	if err != nil {
		return nil, errors.Join(err, content.Close())
	}
	if req.ContentLength = b.size; b.size == 0 {
		content.Close()
		req.Body = http.NoBody
	} else if !b.once {
		req.GetBody = b.open
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	return req, nil
}

// patch sends a part of a blob, from an offset on. It returns where the next part goes.
func (r *Repository) patch(ctx context.Context, location string, b body, offset int64) (string, error) {
	req, err := b.request(ctx, http.MethodPatch, location)
	if err != nil {
		return "", err
	}
	if offset > 0 && b.size > 0 {
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, offset+b.size-1))
	}
	resp, err := r.do(req, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if status := transport.StatusOf(err); offset == 0 && (status == http.StatusMethodNotAllowed || status == http.StatusNotImplemented) {
		r.s.OnlyWhole.Store(true)
	}
	if err != nil {
		return "", err
	}
	transport.Drain(resp)
	if resp.Header.Get("Location") == "" {
		return location, nil
	}
	return locationOf(resp)
}

// errOnlyWhole is why a blob cannot be sent before its digest is known.
var errOnlyWhole = errors.New("the registry takes blobs at once only")

// isMoved reports whether a request would have had to be made elsewhere, with a body that
// was gone.
func isMoved(err error) bool {
	status := transport.StatusOf(err)
	return status == http.StatusTemporaryRedirect || status == http.StatusPermanentRedirect
}

// finish names what has been sent, and sends what is left.
func (r *Repository) finish(ctx context.Context, location string, desc ocispec.Descriptor, rest body) error {
	u, err := url.Parse(location)
	if err != nil {
		return fmt.Errorf("upload location: %w: %w", errdef.ErrInvalid, err)
	}
	q := u.Query()
	q.Set("digest", desc.Digest.String())
	u.RawQuery = q.Encode()
	req, err := rest.request(ctx, http.MethodPut, u.String())
	if err != nil {
		return err
	}
	resp, err := r.do(req, http.StatusCreated, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return err
	}
	transport.Drain(resp)
	return stored(resp, desc)
}
