package executor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/cache"
)

// younger is implemented by caches of which others may have a younger record.
type younger interface {
	// GetSince is cache.Cache.Get of a record whose step ran since a time.
	GetSince(ctx context.Context, key cache.Key, since time.Time) (*cache.Record, error)
}

// limitAge takes a limit over from a step of the node: the least counts.
func (n *node) limitAge(d time.Duration) {
	if d > 0 && (n.maxAge == 0 || d < n.maxAge) {
		n.maxAge = d
	}
}

// renews reports whether a node that has no record young enough makes the steps after it
// look for what they read, not for what they are: their records may have been made of an
// older result.
func (n *node) renews() bool { return n.fresh || n.maxAge > 0 && n.record == nil && !n.isEager() }

// inherit makes the node fresh if an input is. These are keyed.
func (n *node) inherit() {
	n.fresh = n.fresh || slices.ContainsFunc(n.inputs, func(in *node) bool { return in != nil && in.renews() })
}

// find gets the record of a key if it is young enough for the node. The error matches
// cache.ErrMiss if there is none; too old is what there was instead.
func (r *run) find(ctx context.Context, n *node, key cache.Key) (rec, tooOld *cache.Record, err error) {
	if n.maxAge == 0 {
		rec, err = r.opts.Cache.Get(ctx, key)
		return rec, nil, err
	}
	since := time.Now().Add(-n.maxAge)
	rec, err = r.opts.Cache.Get(ctx, key)
	if err != nil || rec.Created.After(since) {
		return rec, nil, err
	}
	tooOld, err = rec, cache.ErrMiss
	if y, ok := r.opts.Cache.(younger); ok {
		rec, err = y.GetSince(ctx, key, since)
	}
	if errors.Is(err, cache.ErrMiss) {
		return nil, tooOld, err
	}
	return rec, nil, err
}

// describeAge says that a record is too old.
func describeAge(rec *cache.Record, most time.Duration) string {
	age := strings.ToLower(units.HumanDuration(time.Since(rec.Created)))
	return "the result is " + age + " old, and may be " + ageText(most)
}

// ageText writes a duration as flags and comments take it.
func ageText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d%(7*day) == 0:
		return fmt.Sprintf("%dw", d/(7*day))
	case d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String() // 12h0m0s, 30m0s
	for _, zero := range []string{"m0s", "h0m"} {
		if short, ok := strings.CutSuffix(text, zero); ok {
			text = short + zero[:1]
		}
	}
	return text
}

// freshInput names an input that was made anew although it is what it was before.
func (n *node) freshInput() (string, bool) {
	for i, in := range n.inputs {
		if in != nil && in.renews() {
			return inputName(n.step, i), true
		}
	}
	return "", false
}
