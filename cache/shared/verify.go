package shared

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// Problem is something that is wrong with an entry or a blob of a place.
type Problem struct {
	Scope  string
	Object string // for people
	Err    error
}

// Verified counts what was looked at.
type Verified struct{ Records, Mounts, Blobs, Problems int }

// Verify looks whether all blobs are there, unless quick reads them and compares their
// digests, and whether the keys of the source, if there are any, have signed all entries.
// Report is called for each problem, by one goroutine at a time. Errors are those of a
// place that does not answer.
func (c *Contents) Verify(ctx context.Context, quick bool, report func(Problem)) (v Verified, err error) {
	var mu sync.Mutex // guards v.Problems, and report
	problem := func(scope, object string, err error) {
		mu.Lock()
		defer mu.Unlock()
		v.Problems++
		report(Problem{scope, object, err})
	}
	seen := map[digest.Digest]bool{}
	for _, sc := range c.scopes {
		v.Records += len(sc.index.Records)
		v.Mounts += len(sc.index.Mounts)
		c.believed(sc, problem)
		var blobs []Blob
		for _, b := range sc.index.blobs() {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				blobs = append(blobs, b)
			}
		}
		v.Blobs += len(blobs)
		bad, err := badBlobs(ctx, c.from.Backend, blobs, quick)
		if err != nil {
			return v, fmt.Errorf("verify cache %s: %w", c.from, err)
		}
		for d, why := range bad {
			problem(sc.name, "blob "+string(d), why)
		}
	}
	return v, nil
}

// believed lists what the keys of the source have signed; all if there are none. What they have
// not is a problem.
func (c *Contents) believed(sc *loadedScope, problem func(scope, object string, err error)) (records []*record, mounts []*Mount) {
	if len(c.from.Verify) == 0 {
		return slices.Clone(sc.index.Records), slices.Clone(sc.index.Mounts)
	}
	for _, r := range sc.index.Records {
		l, err := leafOf(sc.name, r, sc.index.outputs(r))
		if err == nil {
			err = r.verify(l, c.from.Verify)
		}
		if err != nil {
			problem(sc.name, "entry "+string(r.Key), err)
			continue
		}
		records = append(records, r)
	}
	for _, m := range sc.index.Mounts {
		l, err := leafOfMount(sc.name, m)
		if err == nil {
			err = m.verify(l, c.from.Verify)
		}
		if err != nil {
			problem(sc.name, fmt.Sprintf("cache mount %q", m.ID), err)
			continue
		}
		mounts = append(mounts, m)
	}
	return records, mounts
}

// What is wrong with blobs.
var (
	errNoBlob  = errors.New("it is not there")
	errContent = errors.New("it has another content")
)

// badBlobs finds blobs that are not there, and unless quick those that are not what they
// should be.
func badBlobs(ctx context.Context, b Backend, blobs []Blob, quick bool) (map[digest.Digest]error, error) {
	missing, err := b.Missing(ctx, blobs)
	if err != nil {
		return nil, err
	}
	bad := map[digest.Digest]error{}
	for _, m := range missing {
		bad[m.Digest] = errNoBlob
	}
	if quick {
		return bad, nil
	}
	var mu sync.Mutex // guards bad
	var g errgroup.Group
	g.SetLimit(parallel)
	for _, blob := range blobs {
		if bad[blob.Digest] != nil {
			continue
		}
		g.Go(func() error {
			if err := readWhole(ctx, b, blob); err != nil {
				mu.Lock()
				defer mu.Unlock()
				bad[blob.Digest] = err
			}
			return nil
		})
	}
	_ = g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return bad, nil
}

// readWhole reads a blob and verifies it.
func readWhole(ctx context.Context, b Backend, blob Blob) error {
	r, err := (&reading{from: b, blob: blob}).open(ctx, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}
