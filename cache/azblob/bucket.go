package azblob

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"layered.build/builder/cache/object"
)

// mediaType is that of all blobs.
const mediaType = "application/octet-stream"

// bucket is an object.Bucket; at is the container's URL, or the URL of a blob whose name for
// errors is blob.
type bucket struct {
	client *object.Client
	at     *url.URL
	blob   string
}

var _ object.Bucket = (*bucket)(nil)

func (b *bucket) request(op, method, key string, params map[string]string) object.Request {
	u := *b.at
	if key != "" && b.blob == "" {
		u.Path += "/" + key
	}
	u.RawPath = object.EscapePath(u.Path)
	u.RawQuery = object.Query(params)
	return object.Request{Op: op, Object: key, Method: method, URL: &u, Header: http.Header{}}
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
	return b.client.Get(ctx, r, offset)
}

// Put implements object.Bucket.
func (b *bucket) Put(ctx context.Context, key string, p object.Put) error {
	r := b.request("put", http.MethodPut, key, nil)
	r.Body, r.Header = p.Data, p.Conditions()
	r.Header.Set("Content-Type", mediaType)
	r.Header.Set("X-Ms-Blob-Type", "BlockBlob")
	r.Header.Set("Content-MD5", sum(p.Data))
	h, err := b.write(ctx, r)
	if err == nil && h.Get("ETag") == "" {
		err = fmt.Errorf("put %s: the answer has no ETag; is %s Azure's blob storage?", key, b.at.Host)
	}
	return err
}

// sum is what the service verifies.
func sum(data []byte) string {
	s := md5.Sum(data)
	return base64.StdEncoding.EncodeToString(s[:])
}

// write makes a request that writes; the container is made if it is not there.
func (b *bucket) write(ctx context.Context, r object.Request) (http.Header, error) {
	h, _, err := b.client.Call(ctx, r)
	if code(err) != "ContainerNotFound" || b.blob != "" {
		return h, err
	}
	create := b.request("create", http.MethodPut, "", map[string]string{"restype": "container"})
	create.Object = "container " + b.at.Path[1:]
	if _, _, err := b.client.Call(ctx, create); err != nil && code(err) != "ContainerAlreadyExists" {
		return nil, err
	}
	h, _, err = b.client.Call(ctx, r)
	return h, err
}

// code is the service's name of an error, "" if it is none of its.
func code(err error) string {
	var f *object.Failure
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

// Upload implements object.Bucket. Blocks are only sent; they are a blob when they are named.
func (b *bucket) Upload(_ context.Context, key string) (object.Upload, error) {
	return &upload{bucket: b, key: key, blocks: map[int]string{}}, nil
}

// upload is an object.Upload.
type upload struct {
	bucket *bucket
	key    string

	mu     sync.Mutex
	blocks map[int]string // guarded by mu; their names
}

// Part implements object.Upload. Blocks are named for their contents: those of others that
// write the same blob in other parts are not taken for ours. All names for one blob must be as
// long as the first: they have 64 bytes, as those of Azure's SDK and so of BuildKit, which may
// have begun the same blob and died.
func (u *upload) Part(ctx context.Context, n int, data []byte) error {
	s := sum(data)
	id := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%040d%s", n, s))
	r := u.bucket.request("put", http.MethodPut, u.key, map[string]string{"comp": "block", "blockid": id})
	r.Object += fmt.Sprintf(" (block %d)", n+1)
	r.Body = data
	r.Header.Set("Content-MD5", s)
	if _, err := u.bucket.write(ctx, r); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.blocks[n] = id
	return nil
}

// Complete implements object.Upload. If others completed the same blob meanwhile, the
// blocks are gone, which is an error.
func (u *upload) Complete(ctx context.Context, parts int) error {
	doc := struct {
		XMLName xml.Name `xml:"BlockList"`
		Latest  []string
	}{}
	u.mu.Lock()
	for n := range parts {
		doc.Latest = append(doc.Latest, u.blocks[n])
	}
	u.mu.Unlock()
	data, err := xml.Marshal(doc)
	if err != nil {
		return fmt.Errorf("complete %s: %w", u.key, err)
	}
	r := u.bucket.request("complete", http.MethodPut, u.key, map[string]string{"comp": "blocklist"})
	r.Body = data
	r.Header.Set("Content-Type", "application/xml")
	r.Header.Set("X-Ms-Blob-Content-Type", mediaType)
	_, _, err = u.bucket.client.Call(ctx, r)
	return err
}

// Abort implements object.Upload. The service forgets blocks that no blob names, after a
// week.
func (u *upload) Abort(context.Context) error { return nil }
