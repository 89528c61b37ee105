package actions

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"sync/atomic"

	"layered.build/builder/cache/object"
)

// bucket is an object.Bucket of entries whose contents never change. What is stored without
// having been looked for is damaged: it is written again.
type bucket struct{ entries *entries }

var _ object.Bucket = (*bucket)(nil)

// Stat implements object.Bucket. The service does not tell how large an entry is.
func (b *bucket) Stat(ctx context.Context, key string) (object.Info, error) {
	x, err := b.entries.look(ctx, key)
	if err == nil && x.n == 0 {
		err = fs.ErrNotExist
	}
	return object.Info{Size: -1}, err
}

// Get implements object.Bucket.
func (b *bucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, object.Info, error) {
	for again := false; ; again = true {
		s, _, err := b.entries.open(ctx, key, again)
		if err != nil {
			return nil, object.Info{}, err
		}
		r, info, err := s.Get(ctx, offset)
		var f *object.Failure
		if !again && errors.As(err, &f) && (f.Status == http.StatusForbidden || f.Status == http.StatusUnauthorized) {
			continue // the address may have ended
		}
		return r, info, err
	}
}

// before is the number of the entry that a new one stands in for, 0 if there is none.
func (b *bucket) before(ctx context.Context, key string) (int, error) {
	x, ok := b.entries.last(key)
	if !ok {
		var err error
		if x, err = b.entries.look(ctx, key); err != nil {
			return 0, err
		}
	}
	return x.n, nil
}

// Put implements object.Bucket.
func (b *bucket) Put(ctx context.Context, key string, p object.Put) error {
	after, err := b.before(ctx, key)
	if err != nil {
		return err
	}
	return b.entries.write(ctx, key, after, p.Data)
}

// Upload implements object.Bucket.
func (b *bucket) Upload(ctx context.Context, key string) (object.Upload, error) {
	after, err := b.before(ctx, key)
	if err != nil {
		return nil, err
	}
	r, err := b.entries.reserve(ctx, key, after)
	if err != nil {
		return nil, err
	}
	up, err := r.Signed.Upload(ctx)
	if err != nil {
		r.fail()
		return nil, err
	}
	return &upload{Upload: up, entry: r}, nil
}

// upload is an object.Upload of an entry.
type upload struct {
	object.Upload
	entry *reserved
	size  atomic.Int64
}

// Part implements object.Upload.
func (u *upload) Part(ctx context.Context, n int, data []byte) error {
	err := u.Upload.Part(ctx, n, data)
	if err == nil {
		u.size.Add(int64(len(data)))
	}
	return err
}

// Complete implements object.Upload.
func (u *upload) Complete(ctx context.Context, parts int) error {
	if err := u.Upload.Complete(ctx, parts); err != nil {
		return err
	}
	return u.entry.finish(ctx, u.size.Load())
}

// Abort implements object.Upload. The entry cannot be taken back: it stays without content.
func (u *upload) Abort(ctx context.Context) error {
	u.entry.fail()
	return u.Upload.Abort(ctx)
}
