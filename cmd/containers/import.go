package containers

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/snapshot"
)

// Import makes an image with one layer of a tar of a file system, which may be compressed.
// Message is the comment in its history. The image has no name yet.
func Import(ctx context.Context, e *engine.Engine, r io.Reader, config registry.ImageConfig, message string) (*registry.Image, error) {
	l, err := e.Store.Import(ctx, nil, "", r)
	for _, wrong := range []error{tar.ErrHeader, gzip.ErrHeader, gzip.ErrChecksum, io.ErrUnexpectedEOF} {
		if errors.Is(err, wrong) {
			return nil, mistake.New("%w", err).WithHint("a tar of a file system is wanted, which may be compressed")
		}
	}
	if err != nil {
		return nil, err
	}
	return Assemble(e, registry.AssembleInput{
		Config: config, Stack: snapshot.Stack{l},
		Steps: []registry.AssembleStep{{Comment: message, Stack: snapshot.Stack{l}, Config: config}},
	})
}

// FindImage looks for an image in the store, of a platform where one is given.
func FindImage(e *engine.Engine, ref string, p *ocispec.Platform) (*registry.Image, error) {
	if p == nil {
		return e.Images.ResolveLocal(ref)
	}
	return e.Images.ResolvePlatform(ref, *p)
}

// FileSystem is what an ended run left, or else what an image holds.
func FileSystem(e *engine.Engine, name string, p *ocispec.Platform) (snapshot.Stack, error) {
	r, err := e.Runs().Find(name)
	if err == nil {
		if r.Record.Finished == nil {
			return nil, mistake.New("run %s has not ended", name).WithHint("only what an ended run left can be exported")
		}
		return r.Record.Stack, e.Client.Attach(r.Record.Stack)
	}
	img, ierr := FindImage(e, name, p)
	if ierr != nil {
		return nil, errors.Join(ierr, err)
	}
	return img.Stack, e.Attach(img)
}
