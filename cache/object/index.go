package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/shared"
)

// maxIndex is how many bytes of an index are read.
const maxIndex = 256 << 20

// anyVersion is that of an index whose service does not tell one.
const anyVersion = "*"

// Index implements shared.Indexes; the version is the object's ETag.
func (p *Place) Index(ctx context.Context, scope string) ([]byte, string, error) {
	try := p.o.Retry.begin(false)
	for {
		data, info, err := p.readIndex(ctx, p.layout.index(scope))
		if err == nil {
			if info.ETag == "" {
				p.loose.Store(true)
				info.ETag = anyVersion
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			p.notes[scope] = info.Note
			return data, info.ETag, nil
		}
		var broken *brokenError
		if !errors.As(err, &broken) {
			return nil, "", err
		}
		pause, ok := try.again(broken.f)
		if !ok || ctx.Err() != nil {
			return nil, "", err
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, "", err
		}
	}
}

// brokenError is a body that broke off.
type brokenError struct{ f *Failure }

func (e *brokenError) Error() string { return e.f.Error() }
func (e *brokenError) Unwrap() error { return e.f }

func (p *Place) readIndex(ctx context.Context, key string) ([]byte, Info, error) {
	r, info, err := p.bucket.Get(ctx, key, 0)
	if err != nil {
		return nil, info, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	var f *Failure
	switch {
	case errors.As(err, &f):
		return nil, info, &brokenError{f}
	case err != nil:
		return nil, info, err
	case len(data) > maxIndex:
		return nil, info, fmt.Errorf("get %s: more than %d bytes are no index", key, maxIndex)
	}
	return data, info, nil
}

// Replace implements shared.Indexes. The blobs that the index names are touched if they
// become old.
func (p *Place) Replace(ctx context.Context, scope string, data []byte, blobs []shared.Blob, version string) error {
	note, err := p.touchAll(ctx, scope, blobs)
	if err != nil {
		return err
	}
	key, put := p.layout.index(scope), Put{Data: data, Note: note}
	if !p.loose.Load() {
		put.None, put.Match = version == "", version
	}
	err = p.bucket.Put(ctx, key, put)
	var f *Failure
	if errors.As(err, &f) && (put.None || put.Match != "") {
		if refused(f, put) {
			return fmt.Errorf("%w: %w", shared.ErrConflict, err)
		}
		if unknown(f) {
			p.loose.Store(true)
			put.None, put.Match = false, ""
			err = p.bucket.Put(ctx, key, put)
		}
	}
	if err != nil {
		return err
	}
	p.confirm(ctx, key, put)
	return nil
}

// refused reports whether a condition was not met.
func refused(f *Failure, p Put) bool {
	switch f.Status {
	case http.StatusPreconditionFailed:
		return true
	case http.StatusConflict: // S3 (two at once), S3, Azure
		return f.Code == "ConditionalRequestConflict" || f.Code == "OperationAborted" || f.Code == "BlobAlreadyExists"
	}
	return p.Match != "" && errors.Is(f, fs.ErrNotExist)
}

// unknown reports whether a service knows no conditions.
func unknown(f *Failure) bool {
	text := strings.ToLower(f.text)
	return f.Status == http.StatusNotImplemented || f.Code == "NotImplemented" ||
		f.Status == http.StatusBadRequest && (strings.Contains(text, "if-match") || strings.Contains(text, "if-none-match"))
}

// confirm finds out, once, whether the service keeps conditions: some ignore them silently.
// It writes what was just written, under a condition that is not met. Failures do not
// matter: the index is written.
func (p *Place) confirm(ctx context.Context, key string, put Put) {
	if p.loose.Load() || p.confirmed.Swap(true) {
		return
	}
	put.None, put.Match = true, ""
	if err := p.bucket.Put(ctx, key, put); err == nil {
		p.loose.Store(true)
	}
}

// touchAll touches blobs that are older than Options.Touch. Those that this process has not
// seen are asked for, but no more often than four times in that time: when it was last done
// is in the note of the index.
func (p *Place) touchAll(ctx context.Context, scope string, blobs []shared.Blob) (note string, err error) {
	t, ok := p.bucket.(Toucher)
	if !ok || p.o.Touch <= 0 {
		return "", nil
	}
	p.mu.Lock()
	note = p.notes[scope]
	p.mu.Unlock()
	last, err := strconv.ParseInt(note, 10, 64)
	all := err != nil || time.Since(time.Unix(last, 0)) > p.o.Touch/4
	if all {
		note = strconv.FormatInt(time.Now().Unix(), 10)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(statParallel)
	for _, b := range blobs {
		g.Go(func() error { return p.touch(ctx, t, b, all) })
	}
	return note, g.Wait()
}

func (p *Place) touch(ctx context.Context, t Toucher, b shared.Blob, ask bool) error {
	modified, seen := p.seen(b.Digest)
	if !seen && ask {
		there, err := p.stat(ctx, b)
		if err != nil || !there { // who wants it will find out
			return err
		}
		modified, seen = p.seen(b.Digest)
	}
	if !seen || time.Since(modified) <= p.o.Touch {
		return nil
	}
	err := t.Touch(ctx, p.layout.blob(b.Digest), b.Size)
	if err == nil {
		p.see(b.Digest, time.Now())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (p *Place) seen(d digest.Digest) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.modified[d]
	return t, ok
}
