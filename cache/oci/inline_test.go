package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is in images' configurations is told by name, and what is damaged or large is no
// cache. Nothing but manifests and configurations is read.
func TestInlineOthers(t *testing.T) {
	blobs := map[digest.Digest][]byte{}
	put := func(mediaType string, data string) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(data), Size: int64(len(data))}
		blobs[d.Digest] = []byte(data)
		return d
	}
	manifest := func(config ocispec.Descriptor) string {
		raw, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{put(ocispec.MediaTypeImageLayerGzip, "layer")}})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	image := func(member string) string {
		return manifest(put(ocispec.MediaTypeImageConfig, `{"rootfs":{"diff_ids":["`+string(digest.FromString("d"))+`"]}`+member+`}`))
	}
	large := put(ocispec.MediaTypeImageConfig, "large")
	large.Size = maxConfig + 1
	for name, c := range map[string]struct{ raw, want string }{
		"nothing":   {image(""), "holds no cache"},
		"BuildKit":  {image(`,"moby.buildkit.cache.v0":"W10="`), "with a cache of BuildKit's (inline)"},
		"damaged":   {image(`,"build.layered.cache.v1":"bm90aGluZw=="`), "damaged"},
		"no base64": {image(`,"build.layered.cache.v1":"!"`), "damaged"},
		"number":    {image(`,"build.layered.cache.v1":7`), "damaged"},
		"large":     {manifest(large), "not a cache"},
		"lost":      {manifest(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString("lost")}), "file does not exist"},
		"no image":  {manifest(put("application/x", "{}")), "not a cache"},
		"platforms": {fmt.Sprintf(`{"manifests":[{"digest":%q,"size":1},{"digest":"../../etc/passwd","size":1},{"digest":%q,"size":1,"annotations":{"vnd.docker.reference.type":"attestation-manifest"}}]}`,
			put("", image(`,"moby.buildkit.cache.v0":"W10="`)).Digest, digest.FromString("not read")), "BuildKit's (inline)"},
	} {
		data, err := inline([]byte(c.raw), func(d ocispec.Descriptor, _ bool) ([]byte, error) {
			if b, ok := blobs[d.Digest]; ok && string(b) != "layer" {
				return b, nil
			}
			return nil, fs.ErrNotExist
		})
		if err == nil || !strings.Contains(err.Error(), c.want) || data != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if errors.Is(err, fs.ErrNotExist) != (name == "lost") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
