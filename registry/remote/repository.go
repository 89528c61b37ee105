// Package remote speaks the distribution protocol with one repository of a registry (OCI
// distribution-spec): manifests and blobs, uploads that go on where they broke, and
// uploads of what is still being made. It knows nothing of images and keeps nothing.
package remote

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/transport"
)

// Repository is where blobs and manifests are sent. It is safe for concurrent use.
type Repository struct {
	pool *transport.Pool
	s    *transport.Session
}

// New makes one of a session that may push; the pool says how often to try.
func New(pool *transport.Pool, s *transport.Session) *Repository { return &Repository{pool, s} }

// Fail turns a failure in sending something there into an *errdef.Error.
func (r *Repository) Fail(op, object string, err error) error { return r.s.Fail(op, object, err) }

// do makes a request and checks the status. The caller closes the body.
func (r *Repository) do(req *http.Request, ok ...int) (*http.Response, error) {
	resp, err := r.s.Do(req)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(ok, resp.StatusCode) {
		defer transport.Drain(resp)
		return nil, transport.ResponseError(resp)
	}
	return resp, nil
}

// Has asks whether the repository has a blob.
func (r *Repository) Has(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	there := false
	err := r.pool.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.s.URL("/blobs/"+desc.Digest.String()), nil)
		if err != nil {
			return err
		}
		resp, err := r.do(req, http.StatusOK, http.StatusNotFound)
		if err != nil {
			return r.s.Fail("look for blob", desc.Digest.String(), err)
		}
		transport.Drain(resp)
		there = resp.StatusCode == http.StatusOK
		return nil
	})
	return there, err
}

// Mount asks the registry to take a blob from another of its repositories, which the
// session may read. It is false, which is no failure, if the registry does not want to, or
// refused the right to read there.
func (r *Repository) Mount(ctx context.Context, blob digest.Digest, from string) (bool, error) {
	if r.s.Lacks("repository:" + from + ":pull") {
		return false, nil
	}
	query := url.Values{"mount": {blob.String()}, "from": {from}}
	b, err := r.start(ctx, "?"+query.Encode())
	if err == nil && !b.mounted {
		r.abandon(ctx, b.location)
	}
	return err == nil && b.mounted, err
}

// PutManifest sends a manifest or an index under a tag or its digest. The error matches
// errdef.ErrBadDigest if the registry stored something else.
func (r *Repository) PutManifest(ctx context.Context, name string, desc ocispec.Descriptor, raw []byte) error {
	return r.pool.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, r.s.URL("/manifests/"+name), bytes.NewReader(raw))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", desc.MediaType)
		resp, err := r.do(req, http.StatusCreated, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return r.s.Fail("push manifest", name, err)
		}
		transport.Drain(resp)
		return r.s.Fail("push manifest", name, stored(resp, desc))
	})
}

// stored compares what a registry says that it has stored with what it was sent. What it
// says may be missing, no digest at all, or made in another way.
func stored(resp *http.Response, desc ocispec.Descriptor) error {
	got := told(resp)
	if got == "" || got == desc.Digest || got.Algorithm() != desc.Digest.Algorithm() {
		return nil
	}
	return fmt.Errorf("%w: the registry stored %s instead of %s", errdef.ErrBadDigest, got, desc.Digest)
}

// told returns the digest of what was asked for, as the registry tells it; "" if it tells
// none, or something that is none.
func told(resp *http.Response) digest.Digest {
	d := digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	if d.Validate() != nil {
		return ""
	}
	return d
}
