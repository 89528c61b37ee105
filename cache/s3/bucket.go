package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"layered.build/builder/cache/object"
)

// mediaType is that of all objects.
const mediaType = "application/octet-stream"

// noteField is where a note is kept.
const noteField = "X-Amz-Meta-Builder"

// bucket is an object.Bucket; at is its URL.
type bucket struct {
	client *object.Client
	at     *url.URL
	name   string
	// plain says that the service does not take checksums in a field of their own.
	plain atomic.Bool
}

var (
	_ object.Bucket  = (*bucket)(nil)
	_ object.Toucher = (*bucket)(nil)
)

func (b *bucket) request(op, method, key string, params map[string]string) object.Request {
	u := *b.at
	u.Path += "/" + key
	u.RawPath = object.EscapePath(u.Path)
	u.RawQuery = object.Query(params)
	return object.Request{Op: op, Object: key, Method: method, URL: &u}
}

// Stat implements object.Bucket.
func (b *bucket) Stat(ctx context.Context, key string) (object.Info, error) {
	h, _, err := b.client.Call(ctx, b.request("look for", http.MethodHead, key, nil))
	if err != nil {
		return object.Info{}, err
	}
	return object.InfoOf(h), nil
}

// Get implements object.Bucket.
func (b *bucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, object.Info, error) {
	r := b.request("get", http.MethodGet, key, nil)
	r.Once = true
	body, info, err := b.client.Get(ctx, r, offset)
	info.Note = info.Header.Get(noteField)
	return body, info, err
}

// Put implements object.Bucket.
func (b *bucket) Put(ctx context.Context, key string, p object.Put) error {
	r := b.request("put", http.MethodPut, key, nil)
	r.Body, r.Header = p.Data, p.Conditions()
	r.Header.Set("Content-Type", mediaType)
	if p.Note != "" {
		r.Header.Set(noteField, p.Note)
	}
	if !b.plain.Load() {
		sum := sha256.Sum256(p.Data)
		r.Header.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	}
	h, _, err := b.client.Call(ctx, r)
	if b.wantsPlain(err) {
		r.Header.Del("X-Amz-Checksum-Sha256")
		h, _, err = b.client.Call(ctx, r)
	}
	if err == nil && h.Get("ETag") == "" {
		err = fmt.Errorf("put %s: the answer has no ETag; is %s a service like S3?", key, b.at.Host)
	}
	return err
}

// wantsPlain reports whether a service refuses checksums in a field of their own. It checks
// the signed one, of the same bytes, all the same.
func (b *bucket) wantsPlain(err error) bool {
	var f *object.Failure
	if !errors.As(err, &f) || f.Status != http.StatusBadRequest && f.Status != http.StatusNotImplemented ||
		!strings.Contains(strings.ToLower(f.Error()), "checksum") {
		return false
	}
	return !b.plain.Swap(true)
}

// maxCopy is how large an object may be that is copied at once, and a part of one.
const maxCopy = 5 << 30

// Touch implements object.Toucher: the object is copied onto itself.
func (b *bucket) Touch(ctx context.Context, key string, size int64) error {
	from := object.EscapePath("/" + b.name + "/" + key)
	if size > maxCopy {
		return b.touchParts(ctx, key, from, size)
	}
	r := b.request("touch", http.MethodPut, key, nil)
	r.Header = http.Header{}
	r.Header.Set("Content-Type", mediaType)
	r.Header.Set("X-Amz-Copy-Source", from)
	r.Header.Set("X-Amz-Metadata-Directive", "REPLACE")
	r.Header.Set("X-Amz-Meta-Updated-At", time.Now().UTC().Format(time.RFC3339))
	_, body, err := b.client.Call(ctx, r)
	if err != nil {
		return err
	}
	return inBody(r, body, &struct{}{})
}

func (b *bucket) touchParts(ctx context.Context, key, from string, size int64) error {
	up, err := b.begin(ctx, key)
	if err != nil {
		return err
	}
	parts := 0
	for at := int64(0); at < size; at += maxCopy {
		h := http.Header{}
		h.Set("X-Amz-Copy-Source", from)
		h.Set("X-Amz-Copy-Source-Range", copyRange(at, min(at+maxCopy, size)-1))
		if err := up.part(ctx, parts, h, nil); err != nil {
			return errors.Join(err, up.Abort(ctx))
		}
		parts++
	}
	return up.Complete(ctx, parts)
}

// Explain and inBody read this.
type errorDocument struct {
	XMLName xml.Name `xml:"Error"`
	Code    string
	Message string
	Region  string
}

// inBody reads the document of an answer that said that all is well: what takes long fails
// after that.
func inBody(r object.Request, body []byte, into any) error {
	var failed errorDocument
	if xml.Unmarshal(body, &failed) == nil {
		return fmt.Errorf("%s %s: %s: %s", r.Op, r.Object, failed.Code, failed.Message)
	}
	if err := xml.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", r.Op, r.Object, err)
	}
	return nil
}
