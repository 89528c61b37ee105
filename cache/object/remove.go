package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/shared"
)

// Cleaner is implemented by buckets that can list and delete objects.
type Cleaner interface {
	// List calls fn with the names of all objects that begin with a prefix, in any order,
	// until fn returns an error.
	List(ctx context.Context, prefix string, fn func(key string) error) error
	// Delete deletes an object. One that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// maxIndexes is how many indexes are read before blobs are removed.
const maxIndexes = 10_000

// Remove implements shared.Remover. All that lies where the index does is read before: what
// any scope, another place, or BuildKit names stays. The error matches errors.ErrUnsupported
// if the service cannot.
func (p *Place) Remove(ctx context.Context, blobs []shared.Blob) error {
	c, ok := p.bucket.(Cleaner)
	if !ok {
		return fmt.Errorf("remove blobs from %s: %w", p.o.Name, errors.ErrUnsupported)
	}
	named, err := p.named(ctx, c)
	if err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(statParallel)
	for _, b := range blobs {
		if named[b.Digest] {
			continue
		}
		g.Go(func() error { return c.Delete(ctx, p.layout.blob(b.Digest)) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("remove blobs: %w", err)
	}
	return nil
}

// named are the blobs that any index names.
func (p *Place) named(ctx context.Context, c Cleaner) (map[digest.Digest]bool, error) {
	var indexes []string
	err := c.List(ctx, p.layout.Indexes, func(key string) error {
		if rest, ok := strings.CutPrefix(key, p.layout.Blobs); ok && digest.Digest(rest).Validate() == nil {
			return nil
		}
		if len(indexes) == maxIndexes {
			return fmt.Errorf("more than %d objects below %q", maxIndexes, p.layout.Indexes)
		}
		indexes = append(indexes, key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards named
	named := map[digest.Digest]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for _, key := range indexes {
		g.Go(func() error {
			ds, err := p.namedBy(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			for _, d := range ds {
				named[d] = true
			}
			return err
		})
	}
	return named, g.Wait()
}

// namedBy are the blobs that an index names, this program's or another's.
func (p *Place) namedBy(ctx context.Context, key string) ([]digest.Digest, error) {
	r, _, err := p.bucket.Get(ctx, key, 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(data) > maxIndex {
		return nil, fmt.Errorf("get %s: more than %d bytes are no index", key, maxIndex)
	}
	return shared.DigestsIn(data), nil
}

var _ shared.Remover = (*Place)(nil)
