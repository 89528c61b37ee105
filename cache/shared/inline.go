package shared

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot"
)

// InlineMember is the member of an image's configuration that holds the records of the
// steps that made the image: an index, of whose layers the image has the blobs. BuildKit's
// is "moby.buildkit.cache.v0".
const InlineMember = "build.layered.cache.v1"

// Inline is a cache in the image itself.
type Inline struct {
	// Signer signs the entries; nil: nobody does.
	Signer *sign.Signer
}

// TakeInline takes the options of type=inline. Getenv finds keys that are variables. Errors
// are mistakes.
func TakeInline(a *Attrs, getenv func(string) string) (*Inline, error) {
	in := &Inline{}
	if a.Has("sign-key") {
		var err error
		if in.Signer, err = sign.NewSigner(a.Take("sign-key"), getenv); err != nil {
			return nil, err
		}
	}
	if mode := a.Take("mode"); mode != "" && mode != ModeMin {
		return nil, mistake.Unsupported("type=inline: mode="+mode, "the image has the steps of its own layers only; type=registry has others")
	}
	return in, a.Left()
}

// InlineImage is an image that is to hold its cache.
type InlineImage struct {
	// Made are the layers as the steps made them.
	Made snapshot.Stack
	// As are the layers that the image has, of which there are as many. The lowest Base are
	// those of its base image.
	As   snapshot.Stack
	Base int
	// Epoch, unless nil, is a time that nothing is later than.
	Epoch *time.Time
}

// Inline is the index of the records that led to an image: those whose layers are the lowest
// ones of the image. The same image has the same bytes, whatever caches held.
func (s *Session) Inline(ctx context.Context, img InlineImage, in Inline) ([]byte, error) {
	recs := s.chosen(ModeMax, nil)
	var entries []*entry
	for key, rec := range recs {
		// Which of the other keys a build meets depends on what the cache held.
		if rec.Definition != key || len(rec.Outputs) != 1 || !begins(img.Made, rec.Outputs[0]) {
			continue
		}
		r := record{Key: key, Definition: rec.Definition, Created: until(rec.Created, img.Epoch), Findings: rec.Findings}
		entries = append(entries, &entry{r, [][]layer{img.layers(len(rec.Outputs[0]))}})
	}
	slices.SortFunc(entries, func(a, b *entry) int { return cmp.Compare(a.Key, b.Key) })
	if err := newSigns(in.Signer, nil).signAll(ctx, "", entries, nil, newLoadedScope("", "", &index{})); err != nil {
		return nil, err
	}
	w := newWriter()
	for _, e := range entries {
		w.add(e.record, e.outputs)
	}
	return w.out.encode()
}

// begins reports whether a stack begins with the layers of another.
func begins(stack, with snapshot.Stack) bool {
	n := len(with)
	return n <= len(stack) && (n == 0 || stack[n-1].ID == with[n-1].ID) // an ID is that of all below, too
}

// until is a time in seconds, no later than an epoch.
func until(t time.Time, epoch *time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if epoch != nil && t.After(*epoch) {
		t = *epoch
	}
	return t.Unix()
}

// layers are the lowest n. Of those of the base image is not said what this machine knows of
// them: who builds on it has them.
func (img InlineImage) layers(n int) (out []layer) {
	for i, l := range img.As[:n] {
		if i < img.Base {
			out = append(out, layer{DiffID: l.DiffID})
			continue
		}
		out = append(out, layer{
			DiffID: l.DiffID, Content: l.Content, Size: l.Size, Empty: l.Empty,
			Created: until(l.Created, img.Epoch), Image: true,
		})
	}
	return out
}

// Image is an image that may hold a cache.
type Image struct {
	Config []byte
	Layers []ocispec.Descriptor
}

// What an image is that holds no index.
var (
	errInlineBuildKit = PlaceError("it is an image with a cache of BuildKit's (inline), which only BuildKit can read: build it once with --cache-to type=inline")
	errNoInline       = PlaceError("it is an image that holds no cache: build it with --cache-to type=inline, or name what --cache-to has written")
)

// PlaceError says what is in a place instead of a cache.
type PlaceError string

// Error implements error.
func (e PlaceError) Error() string { return string(e) }

// FromImages makes an index of those that images hold. It is a PlaceError that none does.
func FromImages(images []Image) ([]byte, error) {
	w, found := newWriter(), false
	var why error = errNoInline
	for _, img := range images {
		var cfg struct {
			RootFS struct {
				DiffIDs []snapshot.DiffID `json:"diff_ids"`
			}
			Index    []byte          `json:"build.layered.cache.v1"`
			BuildKit json.RawMessage `json:"moby.buildkit.cache.v0"`
		}
		if err := json.Unmarshal(img.Config, &cfg); err != nil {
			return nil, fmt.Errorf("%w: %w", errIndex, err)
		}
		if cfg.BuildKit != nil {
			why = errInlineBuildKit
		}
		if cfg.Index == nil {
			continue
		}
		x, err := decodeIndex(cfg.Index)
		if err != nil {
			return nil, err
		}
		found = true
		x.give(cfg.RootFS.DiffIDs, img.Layers)
		w.addAll(x)
	}
	if !found {
		return nil, why
	}
	return w.within(0).encode()
}

// give gives the layers of an image the blobs that it has.
func (x *index) give(ids []snapshot.DiffID, blobs []ocispec.Descriptor) {
	forms := map[snapshot.DiffID]ocispec.Descriptor{}
	for i, id := range ids {
		if i < len(blobs) {
			forms[id] = blobs[i]
		}
	}
	for i := range x.Layers {
		l := &x.Layers[i]
		if f, ok := forms[l.DiffID]; ok && l.Image {
			l.Blob = &ocispec.Descriptor{MediaType: f.MediaType, Digest: f.Digest, Size: f.Size, Annotations: f.Annotations}
		}
	}
}
