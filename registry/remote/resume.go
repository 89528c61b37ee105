package remote

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/progress"
	"layered.build/builder/registry/transport"
)

// Opener reads a blob from an offset on.
type Opener func(ctx context.Context, offset int64) (io.ReadCloser, error)

// Upload sends a blob, of which the progress of ctx is told. What breaks for a passing
// reason goes on where it was, as long as the registry gets more of it each time.
func (r *Repository) Upload(ctx context.Context, desc ocispec.Descriptor, open Opener) error {
	return (&uploading{r: r, desc: desc, open: open}).run(ctx)
}

// uploading is a blob on its way to a registry. What breaks goes on where the
// registry says that it is (distribution-spec, "Pushing a blob in chunks"), or from
// the beginning where the registry does not say.
type uploading struct {
	r    *Repository
	desc ocispec.Descriptor
	open Opener

	location string // "" before it has begun
	offset   int64  // what the registry has
	unsure   bool   // whether offset is right
	chunk    int64  // how much is sent at once; 0 is all
	least    int64  // of a chunk, as the registry wants it
	whole    bool   // the registry takes blobs at once only
	fails    int
}

// smallChunk is how much is sent at once where more does not get through.
const smallChunk = 16 << 20

// run sends the blob. It tries again what fails for a passing reason, as long as the
// registry gets more of it than before.
func (u *uploading) run(ctx context.Context) error {
	u.whole = u.r.s.OnlyWhole.Load()
	for {
		had := u.offset
		err := u.r.pool.Again(ctx, func() error { return u.once(ctx) })
		if err == nil || !transport.IsPassing(err) || u.offset <= had || ctx.Err() != nil {
			return err
		}
	}
}

func (u *uploading) once(ctx context.Context) error {
	err := u.attempt(ctx)
	if u.r.s.OnlyWhole.Load() && !u.whole {
		u.whole, u.unsure = true, false // nothing was taken
		err = u.attempt(ctx)
	}
	if transport.StatusOf(err) == http.StatusRequestEntityTooLarge && u.chunk == 0 && !u.whole {
		u.chunk, u.location = max(smallChunk, u.least), ""
		err = u.attempt(ctx)
	}
	if err == nil {
		return nil
	}
	if u.fails++; u.fails > 1 {
		u.chunk = max(smallChunk, u.least)
	}
	return u.r.s.Fail("push blob", u.desc.Digest.String(), err)
}

// attempt sends what is lacking. An upload that cannot be taken up again is begun
// anew.
func (u *uploading) attempt(ctx context.Context) error {
	resumed := u.location != "" && (!u.unsure || !u.whole && u.ask(ctx))
	err := u.rest(ctx, resumed)
	if err != nil && resumed && !transport.IsPassing(err) && ctx.Err() == nil {
		return u.rest(ctx, false)
	}
	return err
}

// rest sends what is lacking, or all.
func (u *uploading) rest(ctx context.Context, resumed bool) error {
	if !resumed {
		if err := u.begin(ctx); err != nil {
			return err
		}
	}
	rest := noBody
	if u.whole {
		rest = u.content(ctx, 0, u.desc.Size)
	}
	for first := !resumed; !u.whole && (first || u.offset < u.desc.Size); first = false {
		if err := u.part(ctx); err != nil {
			u.unsure = true
			return err
		}
	}
	err := u.r.finish(ctx, u.location, u.desc, rest)
	if err != nil && !transport.IsPassing(err) {
		u.location = "" // what is there is not the blob
	}
	u.unsure = true
	return err
}

func (u *uploading) begin(ctx context.Context) error {
	b, err := u.r.start(ctx, "")
	u.location, u.least, u.offset, u.unsure = b.location, b.least, 0, false
	return err
}

// part sends some of the blob.
func (u *uploading) part(ctx context.Context) error {
	n := u.desc.Size - u.offset
	if u.chunk > 0 {
		n = min(n, u.chunk)
	}
	location, err := u.r.patch(ctx, u.location, u.content(ctx, u.offset, n), u.offset)
	if err != nil {
		return err
	}
	u.location, u.offset = location, u.offset+n
	return nil
}

// content is a part of the blob, which is told of as it is read.
func (u *uploading) content(ctx context.Context, offset, size int64) body {
	return body{size: size, open: func() (io.ReadCloser, error) {
		in, err := u.open(ctx, offset)
		if err != nil {
			return nil, err
		}
		m := &progress.Writer{W: io.Discard, To: progress.Of(ctx), Item: progress.Item(u.desc.Digest), Done: offset, Total: u.desc.Size}
		return struct {
			io.Reader
			io.Closer
		}{io.TeeReader(io.LimitReader(in, size), m), in}, nil
	}}
}

// ask asks the registry how much it has. It is false if that is not to be known.
func (u *uploading) ask(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.location, nil)
	if err != nil {
		return false
	}
	resp, err := u.r.do(req, http.StatusNoContent, http.StatusOK)
	if err != nil {
		return false
	}
	transport.Drain(resp)
	_, last, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 || n >= u.desc.Size {
		return false
	}
	if u.offset = n + 1; n == 0 { // nothing, or one byte
		return false
	}
	if resp.Header.Get("Location") != "" {
		if u.location, err = locationOf(resp); err != nil {
			return false
		}
	}
	u.unsure = false
	return true
}
