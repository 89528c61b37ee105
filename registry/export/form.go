package export

import (
	"context"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

// look is what options say about an image, wherever it goes.
type look struct {
	names       []string
	compression registry.Compression
	dockerTypes bool
	annotations []Annotation
	// foreign keeps layers that must not be distributed where they are.
	foreign  bool
	epoch    *Epoch
	keepTime bool  // rewrite-timestamp=false
	ociTypes *bool // oci-mediatypes, if it was given
	compat   int   // compatibility-version, 0 if it was not given
}

// currentCompat is the compatibility version whose defaults are the program's.
const currentCompat = 30

func lookOptions() []option[look] {
	return []option[look]{
		{"name", func(l *look, _, value string) error {
			l.names = append(l.names, strings.Split(value, ",")...)
			return nil
		}},
		{"oci-mediatypes", func(l *look, key, value string) error {
			oci, err := truth(key, value)
			l.ociTypes = &oci
			return err
		}},
		text("compression", func(l *look) *string { return &l.compression.Type }),
		{"compression-level", func(l *look, _, value string) error {
			level, err := strconv.Atoi(value)
			if err != nil {
				return mistake.New("--output compression-level=%s: want a number", value)
			}
			l.compression.Level = &level
			return nil
		}},
		flag("force-compression", func(l *look) *bool { return &l.compression.Force }),
		{annotationKey, func(l *look, key, value string) error {
			a, err := readAnnotation(key, value)
			l.annotations = append(l.annotations, a)
			return err
		}},
		flag("prefer-nondist-layers", func(l *look) *bool { return &l.foreign }),
		notFlag("rewrite-timestamp", func(l *look) *bool { return &l.keepTime }),
		epochOption(func(l *look) **Epoch { return &l.epoch }),
		{"compatibility-version", func(l *look, _, value string) (err error) {
			switch value {
			case "10", "20", "30":
				l.compat, err = strconv.Atoi(value)
				return err
			}
			return mistake.New("--output compatibility-version=%s: want 10, 20 or 30", value)
		}},
	}
}

// complete checks what was read. A compatibility version is BuildKit's name for a set of
// defaults; of what they say, the media types of images are the only ones that exist here,
// and not those of layouts.
func (l *look) complete(s Spec, kind string) error {
	switch {
	case l.ociTypes != nil:
		l.dockerTypes = !*l.ociTypes
	case l.compat != 0 && l.compat < currentCompat && kind != OCI:
		l.dockerTypes = true
	}
	l.ociTypes = nil
	if err := l.compression.Check(); err != nil {
		return mistake.New("--output %q: %w", s, err)
	}
	return nil
}

// check refuses what does not go together.
func (l *look) check(of Request) error {
	if l.dockerTypes && (len(l.annotations) > 0 || l.compression.NeedsOCI()) {
		return mistake.New("oci-mediatypes=false knows neither annotations nor zstd nor estargz")
	}
	for _, a := range l.annotations {
		if of.Platforms <= 1 && a.has("index") {
			return mistake.New("annotation %s: an image for one platform has no index", a.key)
		}
	}
	return nil
}

func (l *look) needs() Needs {
	return Needs{Image: true, Names: l.names, Epoch: l.epoch, KeepTimes: l.keepTime}
}

// compress is how layers are compressed for the image.
func (l *look) compress(onlyNew bool) *Compress {
	return &Compress{Form: registry.Form{Compression: l.compression, Foreign: l.foreign}, OnlyNew: onlyNew}
}

// usual reports whether layers and manifests are what they are without options.
func (l *look) usual() bool {
	return l.compression == (registry.Compression{}) && !l.dockerTypes && len(l.annotations) == 0 && !l.foreign
}

// shape gives the images the form that was asked for.
func (l *look) shape(ctx context.Context, c *registry.Client, images []*registry.Image) ([]*registry.Image, error) {
	if l.usual() {
		return images, nil
	}
	var out []*registry.Image
	for _, img := range images {
		shaped, err := c.Shape(ctx, img, registry.Form{
			Compression: l.compression, DockerTypes: l.dockerTypes, Foreign: l.foreign,
			Annotations: l.annotated("manifest", &img.Config.Platform),
		})
		if err != nil {
			return nil, err
		}
		out = append(out, shaped)
	}
	return out, nil
}

// index is the index of images.
func (l *look) index(images []*registry.Image) *registry.Index {
	x := &registry.Index{Images: images, DockerTypes: l.dockerTypes, Annotations: l.annotated("index", nil)}
	for _, img := range images {
		x.MemberAnnotations = append(x.MemberAnnotations, l.annotated("manifest-descriptor", &img.Config.Platform))
	}
	return x
}

// annotated are the annotations that go to one thing, nil if none.
func (l *look) annotated(kind string, p *ocispec.Platform) map[string]string {
	var out map[string]string
	for _, a := range l.annotations {
		if !a.has(kind) || !a.isFor(p) {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		out[a.key] = a.value
	}
	return out
}

// allNames are what all exporters call an image, and an exporter's own names for it, in
// full and each once.
func (l *look) allNames(made Made) []string { return normalised(made.Names, l.names) }
