package imagestore

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/reference"
	"layered.build/builder/snapshot"
)

// LayerOrigin is a file origins/<diff id>.json: in which compressed form
// registries have a layer, and where.
type LayerOrigin struct {
	Version int
	BlobOrigin
	// Others are other compressed forms of the layer, the latest known first.
	Others []BlobOrigin `json:",omitempty"`
}

// BlobOrigin is a compressed form of a layer.
type BlobOrigin struct {
	Blob ocispec.Descriptor
	// Repositories (domain/path) have the blob, the latest known first.
	Repositories []string
}

// Find returns where a blob can be fetched, nil if nowhere.
func (o *LayerOrigin) Find(blob digest.Digest) *BlobOrigin {
	if o == nil {
		return nil
	}
	if o.Blob.Digest == blob {
		return &o.BlobOrigin
	}
	for i := range o.Others {
		if o.Others[i].Blob.Digest == blob {
			return &o.Others[i]
		}
	}
	return nil
}

// prefer makes a blob the form that is fetched when any will do.
func (o *LayerOrigin) prefer(blob ocispec.Descriptor) {
	if o.Blob.Digest == blob.Digest {
		return
	}
	chosen := BlobOrigin{Blob: blob}
	if known := o.Find(blob.Digest); known != nil {
		chosen.Repositories = known.Repositories
	}
	others := slices.DeleteFunc(o.Others, func(b BlobOrigin) bool { return b.Blob.Digest == blob.Digest })
	if o.Blob.Digest != "" {
		others = append([]BlobOrigin{o.BlobOrigin}, others...)
	}
	o.BlobOrigin, o.Others = chosen, others[:min(len(others), maxForms)]
}

// AllRepositories have the layer in some form.
func (o *LayerOrigin) AllRepositories() []string {
	repos := slices.Clone(o.Repositories)
	for _, other := range o.Others {
		repos = append(repos, other.Repositories...)
	}
	return repos
}

// References are the repositories that have the blob.
func (b *BlobOrigin) References() []reference.Reference {
	var refs []reference.Reference
	for _, repo := range b.Repositories {
		if ref, err := reference.Parse(repo); err == nil {
			refs = append(refs, ref)
		}
	}
	return refs
}

// MaxRepositories bounds how many places are remembered of one layer.
const MaxRepositories = 8

// maxForms bounds how many other forms of a layer are remembered.
const maxForms = 4

func (s *Store) originPath(diff snapshot.DiffID) string {
	return s.path(originsDir, digest.Digest(diff).Encoded()+".json")
}

// Origin returns where a layer can be fetched, nil if nowhere.
func (s *Store) Origin(diff snapshot.DiffID) (*LayerOrigin, error) {
	if err := digest.Digest(diff).Validate(); err != nil {
		return nil, fmt.Errorf("layer %q: %w: %w", diff, errdef.ErrInvalid, err)
	}
	var o LayerOrigin
	err := readJSON(s.originPath(diff), &o)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errdef.ErrInvalid) {
		return nil, nil // it is only a memory: nothing is lost without it
	}
	if err != nil {
		return nil, fmt.Errorf("read origin of layer %s: %w", diff, err)
	}
	return &o, nil
}

// AddOrigin remembers that a repository has a layer as a blob. It becomes the
// form that is fetched when any will do.
func (s *Store) AddOrigin(diff snapshot.DiffID, blob ocispec.Descriptor, repo string) error {
	o, err := s.Origin(diff)
	if err != nil {
		return err
	}
	if o != nil && o.Blob.Digest == blob.Digest && slices.Contains(o.Repositories, repo) {
		return nil
	}
	return s.locked(func() error {
		if o, err = s.Origin(diff); err != nil {
			return err
		}
		if o == nil {
			o = &LayerOrigin{Version: formatVersion}
		}
		o.prefer(blob)
		repos := append([]string{repo}, slices.DeleteFunc(o.Repositories, func(r string) bool { return r == repo })...)
		o.Repositories = repos[:min(len(repos), MaxRepositories)]
		if err := s.write(s.originPath(diff), o, false); err != nil {
			return fmt.Errorf("remember origin of layer %s: %w", diff, err)
		}
		return nil
	})
}

// Fetchable reports whether a registry is known to have a layer.
func (s *Store) Fetchable(diff snapshot.DiffID) bool {
	o, err := s.Origin(diff)
	return err == nil && o != nil && len(o.Repositories) > 0
}
