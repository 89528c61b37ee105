package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

const (
	// lookups is how many blobs are asked for at once.
	lookups = 16
	// leastWait is how long it takes others at least to overwrite a tag that they have looked at.
	leastWait = 20 * time.Millisecond
)

// Registry is a repository of a registry. It implements shared.Backend.
type Registry struct {
	repo *registry.Repository
	tag  string
	name string
	form form
}

// NewRegistry takes the options of type=registry. Errors are mistakes.
func NewRegistry(c *registry.Client, a *shared.Attrs) (*Registry, error) {
	name, err := a.Need("ref")
	if err != nil {
		return nil, err
	}
	ref, err := registry.ParseReference(name)
	if err != nil {
		return nil, mistake.New("type=registry: ref=%s: %w", name, err)
	}
	if ref.Digest != "" && ref.Tag == "" {
		ref.Tag = ref.Digest.String()
	}
	insecure, err := a.Bool("registry.insecure", false)
	if err != nil {
		return nil, err
	}
	f, err := takeForm(a)
	if err != nil {
		return nil, err
	}
	r := &Registry{tag: ref.Tag, name: ref.Familiar(), form: f}
	r.repo, err = c.Repository(ref.Repository(), registry.PushOptions{Insecure: insecure})
	return r, err
}

// takeForm takes the options that say what manifests look like.
func takeForm(a *shared.Attrs) (form, error) {
	image, err := a.Bool("image-manifest", true)
	if err != nil {
		return form{}, err
	}
	oci, err := a.Bool("oci-mediatypes", true)
	if err == nil && !image && !oci {
		err = mistake.New("image-manifest=false and oci-mediatypes=false cannot be combined: artifacts have OCI's media types")
	}
	return form{artifact: !image, docker: !oci}, err
}

// String implements shared.Backend.
func (r *Registry) String() string { return "registry " + r.name }

// Loose implements shared.Loose: tags are overwritten.
func (r *Registry) Loose() bool { return true }

// Index implements shared.Indexes.
func (r *Registry) Index(ctx context.Context, scope string) ([]byte, string, error) {
	raw, desc, err := r.repo.Manifest(ctx, tagOf(r.tag, scope))
	if errors.Is(err, registry.ErrNotFound) {
		return nil, "", fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, "", err
	}
	index, err := indexOf(raw)
	if errors.Is(err, errNoCache) && scope == "" {
		data, err := r.inline(ctx, raw)
		return data, ofImage + desc.Digest.String(), err
	}
	if err != nil {
		return nil, "", err
	}
	if len(index.Data) > 0 && int64(len(index.Data)) == index.Size && index.Digest == index.Digest.Algorithm().FromBytes(index.Data) {
		return index.Data, desc.Digest.String(), nil
	}
	data, err := r.repo.Small(ctx, index, maxIndex)
	return data, desc.Digest.String(), err
}

// inline is the index that images hold.
func (r *Registry) inline(ctx context.Context, raw []byte) ([]byte, error) {
	return inline(raw, func(d ocispec.Descriptor, manifest bool) ([]byte, error) {
		if manifest {
			raw, _, err := r.repo.Manifest(ctx, d.Digest.String())
			return raw, err
		}
		return r.repo.Small(ctx, d, maxConfig)
	})
}

// Replace implements shared.Indexes.
func (r *Registry) Replace(ctx context.Context, scope string, data []byte, blobs []shared.Blob, version string) error {
	if strings.HasPrefix(version, ofImage) {
		return errImage
	}
	e, err := r.form.encode(data, blobs)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.repo.SendBytes(gctx, e.index, data) })
	g.Go(func() error {
		if there, err := r.repo.Has(gctx, e.config); err != nil || there {
			return err
		}
		return r.repo.SendBytes(gctx, e.config, e.configRaw)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return r.overwrite(ctx, tagOf(r.tag, scope), e, version)
}

// overwrite gives a manifest the tag, if that names the manifest of a version. Nothing keeps
// others from doing so at the same time, but there is little of it; and who looks afterwards
// looks when they have done it.
func (r *Registry) overwrite(ctx context.Context, tag string, e encoded, version string) error {
	began := time.Now()
	now, err := r.repo.Digest(ctx, tag)
	if err != nil {
		return err
	}
	if now.String() != version {
		return shared.ErrConflict
	}
	if err := r.repo.Put(ctx, tag, e.desc, e.raw); err != nil {
		return err
	}
	select {
	case <-time.After(max(2*time.Since(began), leastWait)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Retire implements shared.Retirer. Blobs that no manifest names go when the registry collects
// its garbage: another manifest on its way may name them.
func (r *Registry) Retire(ctx context.Context, version string) error {
	return r.repo.Retire(ctx, digest.Digest(version))
}

// Missing implements shared.Blobs.
func (r *Registry) Missing(ctx context.Context, blobs []shared.Blob) ([]shared.Blob, error) {
	var mu sync.Mutex
	var out []shared.Blob
	seen := map[string]bool{}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for _, b := range blobs {
		if seen[string(b.Digest)] {
			continue
		}
		seen[string(b.Digest)] = true
		g.Go(func() error {
			there, err := r.repo.Has(ctx, b.Descriptor)
			if err != nil || there {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, b)
			return nil
		})
	}
	err := g.Wait()
	return out, err
}

// Store implements shared.Blobs.
func (r *Registry) Store(ctx context.Context, b shared.Blob, content shared.Content) error {
	if err := r.repo.Send(ctx, b.Descriptor, b.DiffID, func(ctx context.Context, offset int64) (io.ReadCloser, error) { return content(ctx, offset) }); err != nil {
		return err
	}
	if b.DiffID == "" {
		return nil
	}
	return r.Keep(b.DiffID, b.Descriptor)
}

// StoreLayer implements shared.LayerStore.
func (r *Registry) StoreLayer(ctx context.Context, stack snapshot.Stack) (ocispec.Descriptor, error) {
	return r.repo.SendLayer(ctx, stack)
}

// Open implements shared.Blobs.
func (r *Registry) Open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	body, err := r.repo.Open(ctx, b.Descriptor, offset)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return body, err
}

// Keep implements shared.Keeper.
func (r *Registry) Keep(layer snapshot.DiffID, desc ocispec.Descriptor) error {
	return r.repo.Keep(layer, desc)
}
