package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// layerOrigin is a file origins/<diff id>.json: in which compressed form
// registries have a layer, and where.
type layerOrigin struct {
	Version int
	blobOrigin
	// Others are other compressed forms of the layer, the latest known first.
	Others []blobOrigin `json:",omitempty"`
}

// blobOrigin is a compressed form of a layer.
type blobOrigin struct {
	Blob ocispec.Descriptor
	// Repositories (domain/path) have the blob, the latest known first.
	Repositories []string
}

// form returns where a blob can be fetched, nil if nowhere.
func (o *layerOrigin) form(blob digest.Digest) *blobOrigin {
	if o == nil {
		return nil
	}
	if o.Blob.Digest == blob {
		return &o.blobOrigin
	}
	for i := range o.Others {
		if o.Others[i].Blob.Digest == blob {
			return &o.Others[i]
		}
	}
	return nil
}

// prefer makes a blob the form that is fetched when any will do.
func (o *layerOrigin) prefer(blob ocispec.Descriptor) {
	if o.Blob.Digest == blob.Digest {
		return
	}
	chosen := blobOrigin{Blob: blob}
	if known := o.form(blob.Digest); known != nil {
		chosen.Repositories = known.Repositories
	}
	others := slices.DeleteFunc(o.Others, func(b blobOrigin) bool { return b.Blob.Digest == blob.Digest })
	if o.Blob.Digest != "" {
		others = append([]blobOrigin{o.blobOrigin}, others...)
	}
	o.blobOrigin, o.Others = chosen, others[:min(len(others), maxForms)]
}

// allRepositories have the layer in some form.
func (o *layerOrigin) allRepositories() []string {
	repos := slices.Clone(o.Repositories)
	for _, other := range o.Others {
		repos = append(repos, other.Repositories...)
	}
	return repos
}

// refs are the repositories that have the blob.
func (b *blobOrigin) refs() []Reference {
	var refs []Reference
	for _, repo := range b.Repositories {
		if ref, err := ParseReference(repo); err == nil {
			refs = append(refs, ref)
		}
	}
	return refs
}

// maxRepositories bounds how many places are remembered of one layer.
const maxRepositories = 8

// maxForms bounds how many other forms of a layer are remembered.
const maxForms = 4

func (s *Images) originPath(diff snapshot.DiffID) string {
	return filepath.Join(s.dir, "origins", digest.Digest(diff).Encoded()+".json")
}

// origin returns where a layer can be fetched, nil if nowhere.
func (s *Images) origin(diff snapshot.DiffID) (*layerOrigin, error) {
	if err := digest.Digest(diff).Validate(); err != nil {
		return nil, fmt.Errorf("layer %q: %w: %w", diff, ErrInvalid, err)
	}
	var o layerOrigin
	err := readJSON(s.originPath(diff), &o)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrInvalid) {
		return nil, nil // it is only a memory: nothing is lost without it
	}
	if err != nil {
		return nil, fmt.Errorf("read origin of layer %s: %w", diff, err)
	}
	return &o, nil
}

// addOrigin remembers that a repository has a layer as a blob. It becomes the
// form that is fetched when any will do.
func (s *Images) addOrigin(diff snapshot.DiffID, blob ocispec.Descriptor, repo string) error {
	o, err := s.origin(diff)
	if err != nil {
		return err
	}
	if o != nil && o.Blob.Digest == blob.Digest && slices.Contains(o.Repositories, repo) {
		return nil
	}
	return s.locked(func() error {
		if o, err = s.origin(diff); err != nil {
			return err
		}
		if o == nil {
			o = &layerOrigin{Version: imagesVersion}
		}
		o.prefer(blob)
		repos := append([]string{repo}, slices.DeleteFunc(o.Repositories, func(r string) bool { return r == repo })...)
		o.Repositories = repos[:min(len(repos), maxRepositories)]
		if err := s.write(s.originPath(diff), o, false); err != nil {
			return fmt.Errorf("remember origin of layer %s: %w", diff, err)
		}
		return nil
	})
}
