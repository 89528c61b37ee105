package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/cache"
	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// The names of the secrets that authenticate HTTP requests, before the host.
const (
	httpHeaderSecret = "HTTP_AUTH_HEADER_"
	httpTokenSecret  = "HTTP_AUTH_TOKEN_"
)

// newTransport is http.DefaultTransport with a limit on silence before the answer.
func newTransport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.ResponseHeaderTimeout = 2 * time.Minute
	return t
}

// openHTTP finds out what a URL holds now. With a checksum nobody is asked: the
// file is what the checksum says, or fetching it fails.
func (r *Remote) openHTTP(ctx context.Context, src *dag.HTTPSource) (*executor.Remote, error) {
	if src.Checksum != "" {
		name := src.Filename
		if name == "" {
			name = fileName(src.URL, "")
		}
		return r.httpRemote(src, name, digest.Digest(src.Checksum), time.Time{}), nil
	}
	e, err := r.resolveHTTP(ctx, src.URL)
	if err != nil {
		return nil, err
	}
	name := src.Filename
	if name == "" {
		name = e.Filename
	}
	return r.httpRemote(src, name, e.Digest, e.modTime()), nil
}

// httpRemote names a file by all that BuildKit's key holds: its name, mode,
// content and Last-Modified.
func (r *Remote) httpRemote(src *dag.HTTPSource, name string, d digest.Digest, mod time.Time) *executor.Remote {
	modified := ""
	if !mod.IsZero() {
		modified = mod.UTC().Format(http.TimeFormat)
	}
	return &executor.Remote{
		Name: digest.FromString(fmt.Sprintf("http %q %q %q %q", name, fileMode(src.Mode), d, modified)),
		Details: []cache.Part{
			{Name: name, Value: d.String()}, {Name: "Last-Modified", Value: modified}, {Name: "mode", Value: fileMode(src.Mode)},
		},
		Exact: true,
		Files: func(ctx context.Context) (snapshot.Tree, error) {
			e, err := r.fetchHTTP(ctx, src, d)
			if err != nil {
				return nil, err
			}
			return newFileTree(r.blobPath(e.Digest), name, fileMode(src.Mode), e)
		},
	}
}

// fetchHTTP returns a download with a digest: one that is here, or a new one.
func (r *Remote) fetchHTTP(ctx context.Context, src *dag.HTTPSource, want digest.Digest) (*httpEntry, error) {
	if e := r.knownDownload(src.URL, want); e != nil {
		return e, nil
	}
	e, err := r.resolveHTTP(ctx, src.URL)
	if err != nil {
		return nil, err
	}
	if e.Digest != want {
		return nil, &ChecksumError{URL: Redacted(src.URL), Want: want, Got: e.Digest}
	}
	return e, nil
}

// ChecksumError says that a URL does not hold what its checksum promises.
type ChecksumError struct {
	URL       string
	Want, Got digest.Digest
}

// Error implements error.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("digest mismatch for %s: %s (expected: %s)", e.URL, e.Got, e.Want)
}

// resolveHTTP asks the server what a URL holds and downloads it unless it is here.
func (r *Remote) resolveHTTP(ctx context.Context, url string) (*httpEntry, error) {
	a := r.ask("http " + url)
	defer a.mu.Unlock()
	if a.done {
		return a.http, nil
	}
	lock, err := lockPath(ctx, r.metaPath(url)+".lock")
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	var e *httpEntry
	err = r.o.Retry.again(ctx, func() (err error) {
		e, err = r.revalidate(ctx, url)
		return err
	})
	if err != nil {
		return nil, err
	}
	a.http, a.done = e, true
	return e, nil
}

// revalidate does as BuildKit does: where there are downloads with an ETag, a HEAD
// asks whether one of them is current, since some servers ignore If-None-Match;
// only then the file is asked for.
func (r *Remote) revalidate(ctx context.Context, url string) (*httpEntry, error) {
	known := r.readMeta(url)
	req, err := r.request(ctx, url)
	if err != nil {
		return nil, err
	}
	if tags := etags(known); len(tags) > 0 {
		req.Header.Set("If-None-Match", strings.Join(tags, ", "))
		if e := r.head(req, known, tags); e != nil {
			return e, nil
		}
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, requestError(ctx, url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		if e := current(resp, known); e != nil {
			return e, nil
		}
		return nil, fmt.Errorf("download %s: the server says that a version is current which was never downloaded", Redacted(url))
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return nil, &StatusError{URL: Redacted(url), Code: resp.StatusCode, retryAfter: retryAfter(resp)}
	}
	e := &httpEntry{
		ETag: etagValue(resp.Header.Get("ETag")), LastModified: resp.Header.Get("Last-Modified"),
		Filename: fileName(url, resp.Header.Get("Content-Disposition")),
	}
	body := newPatient(ctx, url, resp.Body)
	e.Digest, e.Size, err = r.saveBlob(body)
	body.stop()
	if err != nil {
		return nil, err
	}
	return e, r.writeMeta(url, known, e)
}

// maxSilence is how long a server may send nothing in the middle of a file.
const maxSilence = 2 * time.Minute

// errSilent is why a download ends that stands still.
var errSilent = fmt.Errorf("the server sent nothing for %s", maxSilence)

// patient reads a body and gives its errors their names. It ends the connection
// when nothing comes any more.
type patient struct {
	ctx    context.Context
	url    string
	body   io.ReadCloser
	timer  *time.Timer
	silent atomic.Bool
}

func newPatient(ctx context.Context, url string, body io.ReadCloser) *patient {
	p := &patient{ctx: ctx, url: url, body: body}
	p.timer = time.AfterFunc(maxSilence, func() {
		p.silent.Store(true)
		body.Close()
	})
	return p
}

func (p *patient) stop() { p.timer.Stop() }

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	p.timer.Reset(maxSilence)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case p.silent.Load():
		err = errSilent
	}
	return n, requestError(p.ctx, p.url, err)
}

// head asks whether a download is current. A server that does not answer HEAD is
// asked by GET.
func (r *Remote) head(req *http.Request, known []*httpEntry, tags []string) *httpEntry {
	h := req.Clone(req.Context())
	h.Method = http.MethodHead
	// Go only adds this to GET; some servers have other ETags without it.
	h.Header.Set("Accept-Encoding", "gzip")
	resp, err := r.client.Do(h)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotModified {
		return nil
	}
	return current(resp, known)
}

// current returns the download that a response names by its ETag. A 304 without
// one means the only one that was asked about.
func current(resp *http.Response, known []*httpEntry) *httpEntry {
	tag := etagValue(resp.Header.Get("ETag"))
	if tags := etags(known); tag == "" && resp.StatusCode == http.StatusNotModified && len(tags) == 1 {
		tag = tags[0]
	}
	for _, e := range known {
		if tag != "" && e.ETag == tag {
			return e
		}
	}
	return nil
}

func etags(known []*httpEntry) []string {
	var out []string
	for _, e := range known {
		if e.ETag != "" {
			out = append(out, e.ETag)
		}
	}
	return out
}

// etagValue leaves out that a tag is weak, for comparing.
func etagValue(v string) string { return strings.TrimPrefix(v, "W/") }

// request makes a GET with what authenticates it.
func (r *Remote) request(ctx context.Context, raw string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, requestError(ctx, raw, err)
	}
	req.Header.Set("User-Agent", "builder/"+r.o.Version+" (compatible; buildkit/v0.34)")
	host := req.URL.Hostname()
	for _, s := range []struct{ id, scheme string }{{httpHeaderSecret + host, ""}, {httpTokenSecret + host, "Bearer "}} {
		value, err := r.secret(ctx, s.id)
		if err != nil {
			return nil, err
		}
		if value != "" {
			req.Header.Set("Authorization", s.scheme+value)
		}
	}
	return req, nil
}

// StatusError is an HTTP answer that is no success.
type StatusError struct {
	URL  string
	Code int

	retryAfter time.Duration // what the server asks to wait
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("download %s: invalid response status %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// UnreachableError says that a server could not be asked, or fell silent.
type UnreachableError struct {
	URL string
	Err error
}

// Error implements error.
func (e *UnreachableError) Error() string { return fmt.Sprintf("download %s: %v", e.URL, e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// requestError names a failed request without the URL's password.
func requestError(ctx context.Context, raw string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return &UnreachableError{URL: Redacted(raw), Err: err}
}

// Download is a file that is here.
type Download struct {
	// Path is where it is. It must not be changed.
	Path string
	// Filename is what the server calls it, or how the URL ends.
	Filename string
	// LastModified is zero if the server does not say.
	LastModified time.Time
}

// Download fetches a file, unless it is here and current.
func (r *Remote) Download(ctx context.Context, src *dag.HTTPSource) (*Download, error) {
	e, err := r.resolveHTTP(ctx, src.URL)
	if err != nil {
		return nil, err
	}
	if src.Checksum != "" && src.Checksum != e.Digest.String() {
		return nil, &ChecksumError{URL: Redacted(src.URL), Want: digest.Digest(src.Checksum), Got: e.Digest}
	}
	return &Download{Path: r.blobPath(e.Digest), Filename: e.Filename, LastModified: e.modTime()}, nil
}
