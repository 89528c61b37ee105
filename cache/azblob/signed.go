package azblob

import (
	"context"
	"errors"
	"io"
	"net/url"

	"layered.build/builder/cache/object"
)

// Signed is a blob whose URL holds a shared access signature, as a service hands it out for
// one blob alone. It is safe for concurrent use.
type Signed struct{ bucket *bucket }

// NewSigned makes requests with the parts of a client that do not depend on the service; name
// is what the blob is called in errors, which hold nothing of the URL.
func NewSigned(address, name string, c *object.Client) (*Signed, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the signed address is no URL")
	}
	query := u.RawQuery
	c.Secrets.Add(u.Query().Get("sig"))
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return &Signed{&bucket{at: u, blob: name, client: &object.Client{
		HTTP: c.HTTP, Service: &service{login: signature{query: query}}, Retry: c.Retry, Clock: &object.Clock{}, Secrets: c.Secrets,
	}}}, nil
}

// Get reads the blob from an offset; see object.Bucket.
func (s *Signed) Get(ctx context.Context, offset int64) (io.ReadCloser, object.Info, error) {
	return s.bucket.Get(ctx, s.bucket.blob, offset)
}

// Put writes the whole blob.
func (s *Signed) Put(ctx context.Context, data []byte) error {
	return s.bucket.Put(ctx, s.bucket.blob, object.Put{Data: data})
}

// Upload begins the blob in parts.
func (s *Signed) Upload(ctx context.Context) (object.Upload, error) {
	return s.bucket.Upload(ctx, s.bucket.blob)
}
