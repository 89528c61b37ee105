package object

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Service is what differs between services in the requests themselves.
type Service interface {
	// Sign completes a request, whose body is given too, as of the time of the clock. It is
	// called anew for each attempt. Errors are the user's or those of who gives credentials;
	// nothing is tried again then.
	Sign(ctx context.Context, r *http.Request, body []byte, clock *Clock) error
	// Explain finds the service's name of an error, and what it says about it.
	Explain(resp *http.Response, body []byte) (code, text string)
	// Renew forgets credentials that were refused, if others may be had in their place. It
	// reports whether that is so.
	Renew(f *Failure) bool
}

// Client makes requests to one service. It is safe for concurrent use.
type Client struct {
	// HTTP must not follow redirects: a signature is for one host. NewHTTP makes one.
	HTTP    *http.Client
	Service Service
	Retry   Retry
	Clock   *Clock
	Secrets *Secrets

	gate gate
}

// NewHTTP makes a client on a transport; redirects are answers.
func NewHTTP(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Request is what a service is asked.
type Request struct {
	// Op and Object are for errors.
	Op, Object string
	Method     string
	URL        *url.URL
	Header     http.Header
	Body       []byte
	// Once says that a broken connection is not tried again, only what the service
	// refused for a while.
	Once bool
}

// Do makes a request until it succeeds, which is an answer of 2xx whose body the caller
// closes; other errors are a *Failure.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	try := c.Retry.begin(r.Once)
	var corrected, renewed bool
	for {
		if err := c.gate.wait(ctx); err != nil {
			return nil, err
		}
		signed := c.Clock.offset()
		resp, err := c.once(ctx, r)
		if err == nil {
			return resp, nil
		}
		f, ok := err.(*Failure) // of this request, not of one for credentials
		if !ok {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s %s: %w", r.Op, r.Object, context.Cause(ctx))
		}
		if denied(f.Status) && !corrected && (c.Clock.Learn(f.header) || c.Clock.offset() != signed) {
			corrected = true
			continue
		}
		if denied(f.Status) && !renewed && c.Service.Renew(f) {
			renewed = true
			continue
		}
		pause, ok := try.again(f)
		if !ok {
			return nil, f
		}
		if f.throttled() && c.Retry.Together {
			c.gate.shut(pause)
		}
		if err := sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.Op, r.Object, err)
		}
	}
}

func denied(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden
}

func (c *Client) once(ctx context.Context, r Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://host", bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Op, r.Object, err)
	}
	u := *r.URL
	req.URL, req.Host = &u, u.Host
	if len(r.Body) == 0 {
		req.Body, req.GetBody = http.NoBody, nil
	}
	for k, v := range r.Header {
		req.Header[k] = append([]string(nil), v...)
	}
	req.Header.Set("User-Agent", "builder")
	if err := c.Service.Sign(ctx, req, r.Body, c.Clock); err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.Op, r.Object, err)
	}
	resp, err := c.HTTP.Do(req)
	switch {
	case err != nil:
		return nil, c.broken(r, err)
	case resp.StatusCode/100 != 2:
		return nil, c.refusal(r, resp)
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"):
		return nil, c.webPage(r, resp)
	}
	return resp, nil
}

// Call is Do for answers that are short: it returns their header and body.
func (c *Client) Call(ctx context.Context, r Request) (http.Header, []byte, error) {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, nil, c.broken(r, err)
	}
	return resp.Header, body, nil
}

// Get reads an object from an offset, which lies within it unless it is 0. The caller
// closes the reader, whose errors are failures, one of them that it ends too early.
func (c *Client) Get(ctx context.Context, r Request, offset int64) (io.ReadCloser, Info, error) {
	r.Method = http.MethodGet
	r.Header = r.Header.Clone()
	if offset > 0 {
		if r.Header == nil {
			r.Header = http.Header{}
		}
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return nil, Info{}, err
	}
	info := InfoOf(resp.Header)
	b := &body{r: resp.Body, client: c, request: r, left: resp.ContentLength}
	switch {
	case resp.StatusCode == http.StatusPartialContent && rangeStart(resp.Header) == offset:
		info.Size = rangeTotal(resp.Header)
	case resp.StatusCode == http.StatusOK:
		info.Size = resp.ContentLength
		// The service does not know ranges.
		if _, err := io.CopyN(io.Discard, b, offset); err != nil {
			b.Close()
			return nil, Info{}, err
		}
	default:
		b.Close()
		return nil, Info{}, c.broken(r, fmt.Errorf("the answer is not the part that was asked for: %d %q", resp.StatusCode, resp.Header.Get("Content-Range")))
	}
	return b, info, nil
}

// rangeStart is the first position of "bytes FIRST-LAST/TOTAL", -1 if it is not known.
func rangeStart(h http.Header) int64 {
	text, _ := strings.CutPrefix(h.Get("Content-Range"), "bytes ")
	first, _, _ := strings.Cut(text, "-")
	return number(first)
}

// rangeTotal is the size of the whole in it, -1 if it is not known.
func rangeTotal(h http.Header) int64 {
	_, total, _ := strings.Cut(h.Get("Content-Range"), "/")
	return number(total)
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// body is the bytes of an answer.
type body struct {
	r       io.ReadCloser
	client  *Client
	request Request
	left    int64 // -1: not known
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left >= 0 {
		b.left = max(b.left-int64(n), 0)
	}
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		err = b.client.broken(b.request, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error { return b.r.Close() }
