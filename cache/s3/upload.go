package s3

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"

	"layered.build/builder/cache/object"
)

// upload is an object.Upload.
type upload struct {
	bucket  *bucket
	key, id string

	mu    sync.Mutex
	etags map[int]string // guarded by mu
}

// Upload implements object.Bucket.
func (b *bucket) Upload(ctx context.Context, key string) (object.Upload, error) {
	return b.begin(ctx, key)
}

func (b *bucket) begin(ctx context.Context, key string) (*upload, error) {
	r := b.request("begin", http.MethodPost, key, map[string]string{"uploads": ""})
	r.Header = http.Header{"Content-Type": {mediaType}}
	_, body, err := b.client.Call(ctx, r)
	if err != nil {
		return nil, err
	}
	var begun struct{ UploadId string } //nolint:revive // S3's name
	if err := inBody(r, body, &begun); err != nil {
		return nil, err
	}
	if begun.UploadId == "" {
		return nil, fmt.Errorf("begin %s: the answer names no upload", key)
	}
	return &upload{bucket: b, key: key, id: begun.UploadId, etags: map[int]string{}}, nil
}

// Part implements object.Upload.
func (u *upload) Part(ctx context.Context, n int, data []byte) error {
	return u.part(ctx, n, nil, data)
}

func (u *upload) part(ctx context.Context, n int, h http.Header, data []byte) error {
	r := u.bucket.request("put", http.MethodPut, u.key, map[string]string{"partNumber": partName(n), "uploadId": u.id})
	r.Object += " (part " + partName(n) + ")"
	r.Header, r.Body = h, data
	got, body, err := u.bucket.client.Call(ctx, r)
	if err != nil {
		return err
	}
	etag := got.Get("ETag")
	if h != nil { // copied
		var copied struct{ ETag string }
		if err := inBody(r, body, &copied); err != nil {
			return err
		}
		etag = copied.ETag
	}
	if etag == "" {
		return fmt.Errorf("put %s: the answer has no ETag", r.Object)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.etags[n] = etag
	return nil
}

type completion struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUpload"`
	Part    []completedPart
}

type completedPart struct {
	PartNumber int
	ETag       string
}

// Complete implements object.Upload.
func (u *upload) Complete(ctx context.Context, parts int) error {
	var doc completion
	u.mu.Lock()
	for n := range parts {
		doc.Part = append(doc.Part, completedPart{n + 1, u.etags[n]})
	}
	u.mu.Unlock()
	data, err := xml.Marshal(doc)
	if err != nil {
		return fmt.Errorf("complete %s: %w", u.key, err)
	}
	r := u.bucket.request("complete", http.MethodPost, u.key, map[string]string{"uploadId": u.id})
	r.Header, r.Body = http.Header{"Content-Type": {"application/xml"}}, data
	_, body, err := u.bucket.client.Call(ctx, r)
	if err != nil {
		return err
	}
	return inBody(r, body, &struct{}{})
}

// Abort implements object.Upload.
func (u *upload) Abort(ctx context.Context) error {
	_, _, err := u.bucket.client.Call(ctx, u.bucket.request("abort", http.MethodDelete, u.key, map[string]string{"uploadId": u.id}))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// service is an object.Service.
type service struct {
	region string
	keys   *ring
}

var _ object.Service = (*service)(nil)

// Sign implements object.Service.
func (s *service) Sign(ctx context.Context, r *http.Request, body []byte, clock *object.Clock) error {
	keys, err := s.keys.held.Get(ctx)
	if err != nil {
		return err
	}
	sign(r, body, keys, scope{s.region, "s3"}, clock.Now())
	return nil
}

// Explain implements object.Service. Of what a service says about a signature nothing is
// kept but that.
func (s *service) Explain(resp *http.Response, body []byte) (code, text string) {
	var doc errorDocument
	if xml.Unmarshal(body, &doc) == nil {
		code, text = doc.Code, doc.Message
	} else if t := strings.TrimSpace(string(body)); !strings.HasPrefix(t, "<") {
		text = t
	}
	region := cmp.Or(resp.Header.Get("X-Amz-Bucket-Region"), doc.Region)
	switch {
	case region != "" && region != s.region:
		text = strings.TrimSuffix(text, ".") + "; the bucket is in region " + region + ", not " + s.region
	case resp.StatusCode == http.StatusForbidden:
		more := ""
		if code == "AccessDenied" || code == "" {
			more = "; who may not list the bucket is told so, too, of what is not there"
		}
		text = strings.TrimSuffix(text, ".") + " (credentials of " + s.keys.source.About() + more + ")"
	}
	return code, strings.TrimSpace(text)
}

// Renew implements object.Service.
func (s *service) Renew(f *object.Failure) bool {
	switch f.Code {
	case "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "":
		return s.keys.held.Forget()
	}
	return false
}
