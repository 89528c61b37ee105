// Package compression makes the compressed forms of layers: gzip, zstd, and those with
// a table of contents, from which single files can be fetched (eStargz, zstd:chunked).
// The same tar gives the same bytes on every machine.
package compression

import (
	"cmp"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/mediatype"
)

// Config is how layers are compressed. The zero value is the usual form:
// gzip for layers that were made here, for others what they came in.
type Config struct {
	// Type is "", "gzip", "zstd", "uncompressed", "estargz" or "zstd:chunked".
	Type string
	// Level is the compressor's own, nil for the usual one.
	Level *int
	// Force also changes layers that were made elsewhere.
	Force bool
}

// Check says what is wrong with the values. Errors match errdef.ErrInvalid.
func (o Config) Check() error {
	limit := 9
	switch o.Type {
	case "", "gzip", EStargz:
	case "zstd", ZstdChunked:
		limit = 22
	case "uncompressed":
		if o.Level != nil {
			return fmt.Errorf("%w: compression=uncompressed has no level", errdef.ErrInvalid)
		}
	default:
		return fmt.Errorf("%w: compression=%s is not supported: want gzip, zstd, estargz, zstd:chunked or uncompressed", errdef.ErrInvalid, o.Type)
	}
	if o.Level != nil && (*o.Level < 0 || *o.Level > limit) {
		return fmt.Errorf("%w: compression-level=%d: want 0 to %d", errdef.ErrInvalid, *o.Level, limit)
	}
	return nil
}

// MediaType is OCI's media type of the form.
func (o Config) MediaType() string {
	switch o.Type {
	case "zstd", ZstdChunked:
		return ocispec.MediaTypeImageLayerZstd
	case "uncompressed":
		return ocispec.MediaTypeImageLayer
	}
	return ocispec.MediaTypeImageLayerGzip
}

// IsUsual reports whether layers that are made here have this form anyway.
func (o Config) IsUsual() bool {
	return (o.Type == "" || o.Type == "gzip") && o.Level == nil
}

// String names the compression, its level and whether it is forced.
func (o Config) String() string {
	s := cmp.Or(o.Type, "gzip")
	if o.Level != nil {
		s += fmt.Sprintf("-%d", *o.Level)
	}
	if o.Force {
		s += " forced"
	}
	return s
}

// NeedsOCI reports whether Docker's media types have no name for the form.
func (o Config) NeedsOCI() bool {
	return o.Type == "zstd" || o.Type == ZstdChunked || o.Type == EStargz
}

// ChangesLayers reports whether the plain content of layers becomes another one, and
// with it the image's id.
func (o Config) ChangesLayers() bool { return o.Type == EStargz }

// IsForm reports whether a blob has the form already.
func (o Config) IsForm(desc ocispec.Descriptor) bool {
	toc := TOC(desc.Annotations) != nil
	wantTOC := o.Type == EStargz || o.Type == ZstdChunked
	return mediatype.Convert(desc, false).MediaType == o.MediaType() && toc == wantTOC
}
