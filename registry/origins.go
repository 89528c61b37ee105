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
	Blob    ocispec.Descriptor
	// Repositories (domain/path) have the blob, the latest known first.
	Repositories []string
}

// maxRepositories bounds how many places are remembered of one layer.
const maxRepositories = 8

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

// addOrigin remembers that a repository has a layer as a blob. A new form of the
// blob replaces an older one.
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
		if o == nil || o.Blob.Digest != blob.Digest {
			o = &layerOrigin{Version: imagesVersion, Blob: blob}
		}
		repos := append([]string{repo}, slices.DeleteFunc(o.Repositories, func(r string) bool { return r == repo })...)
		o.Repositories = repos[:min(len(repos), maxRepositories)]
		if err := s.write(s.originPath(diff), o, false); err != nil {
			return fmt.Errorf("remember origin of layer %s: %w", diff, err)
		}
		return nil
	})
}
