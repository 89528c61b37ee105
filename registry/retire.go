package registry

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

const (
	// mostTags is how many tags are looked at before a manifest is deleted.
	mostTags = 1000
	// tagsAtOnce is how many of them are asked for at once.
	tagsAtOnce = 16
)

// Digest is that of the manifest that a tag names now, "" if it names none.
func (r *Repository) Digest(ctx context.Context, tag string) (digest.Digest, error) {
	p, err := r.push()
	if err != nil {
		return "", err
	}
	if d, err := p.repo.Digest(ctx, tag); err != nil || d != "" {
		return d, err
	}
	_, desc, err := r.Manifest(ctx, tag) // there is none, or the registry does not tell
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return desc.Digest, err
}

// Retire deletes a manifest that lost its tag, unless it has another one: that would go
// with it. The error matches errors.ErrUnsupported if the registry deletes none, or it
// cannot be known whether it has another tag.
func (r *Repository) Retire(ctx context.Context, d digest.Digest) error {
	p, err := r.push()
	if err != nil {
		return err
	}
	tags, err := p.repo.Tags(ctx, mostTags)
	if err != nil {
		return err
	}
	var tagged, untold atomic.Bool
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(tagsAtOnce)
	for _, tag := range tags {
		g.Go(func() error {
			got, err := p.repo.Digest(gctx, tag)
			tagged.CompareAndSwap(false, got == d)
			untold.CompareAndSwap(false, got == "")
			return err
		})
	}
	if err := g.Wait(); err != nil || tagged.Load() {
		return err
	}
	if untold.Load() {
		return fmt.Errorf("the registry does not tell what its tags name: %w", errors.ErrUnsupported)
	}
	return p.repo.DeleteManifest(ctx, d)
}
