package planner

import (
	"context"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayoutScheme begins the text of a LayoutImage.
const LayoutScheme = "oci-layout://"

// LayoutImage is an image in an OCI image layout of this machine.
type LayoutImage struct {
	// Path is where the layout is.
	Path string
	// Tag and Digest choose the image; a digest counts alone. Without any it is the
	// latest or the only one.
	Tag    string
	Digest digest.Digest
}

// LayoutResolver finds images in OCI image layouts.
type LayoutResolver interface {
	// ResolveLayout returns the image for a platform. The Layout of the result is the
	// image's Path.
	ResolveLayout(ctx context.Context, img LayoutImage, platform ocispec.Platform) (*BaseImage, error)
}

// ParseLayoutImage reads oci-layout://PATH[:TAG][@DIGEST].
func ParseLayoutImage(text string) (LayoutImage, error) {
	var img LayoutImage
	path, sum, ok := strings.Cut(strings.TrimPrefix(text, LayoutScheme), "@")
	if ok {
		var err error
		if img.Digest, err = digest.Parse(sum); err != nil {
			return img, fmt.Errorf("%s: %w", sum, err)
		}
	}
	if i := strings.LastIndexByte(path, ':'); i > strings.LastIndexByte(path, '/') {
		path, img.Tag = path[:i], path[i+1:]
	}
	img.Path = path
	return img, nil
}

// Ref is what chooses the image in its layout: a digest, a tag or "".
func (i LayoutImage) Ref() string {
	if i.Digest != "" {
		return i.Digest.String()
	}
	return i.Tag
}

// String is what ParseLayoutImage reads.
func (i LayoutImage) String() string {
	s := LayoutScheme + i.Path
	if i.Tag != "" {
		s += ":" + i.Tag
	}
	if i.Digest != "" {
		s += "@" + i.Digest.String()
	}
	return s
}
