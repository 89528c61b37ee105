package mediatype

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const dockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

// Every layer type goes to the other side's name and back.
func TestConvert(t *testing.T) {
	for _, oci := range []string{
		ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
	} {
		docker := Convert(ocispec.Descriptor{MediaType: oci}, true)
		if docker.MediaType == oci {
			t.Errorf("%s has no name of Docker's", oci)
		}
		if again := Convert(docker, true); again.MediaType != docker.MediaType {
			t.Errorf("%s became %s", docker.MediaType, again.MediaType)
		}
		if back := Convert(docker, false); back.MediaType != oci {
			t.Errorf("%s became %s", oci, back.MediaType)
		}
	}
	other := ocispec.Descriptor{MediaType: "application/x"}
	if got := Convert(other, true); got.MediaType != other.MediaType {
		t.Errorf("an unknown type became %s", got.MediaType)
	}
}

func TestForeign(t *testing.T) {
	url := []string{"https://example.com/layer"}
	for _, tc := range []struct {
		mediaType string
		urls      []string
		foreign   bool
		then      string // the type of the same that is distributed
	}{
		{dockerForeign, url, true, ocispec.MediaTypeImageLayerGzip},
		{dockerForeign, nil, false, ocispec.MediaTypeImageLayerGzip},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar", url, true, ocispec.MediaTypeImageLayer},
		{"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", url, true, ocispec.MediaTypeImageLayerGzip},
		{ocispec.MediaTypeImageLayerZstd, url, false, ocispec.MediaTypeImageLayerZstd},
	} {
		d := ocispec.Descriptor{MediaType: tc.mediaType, URLs: tc.urls}
		if got := IsForeign(d); got != tc.foreign {
			t.Errorf("%s %v is foreign: %t", tc.mediaType, tc.urls, got)
		}
		got := Distributable(d)
		if got.MediaType != tc.then || IsForeign(got) {
			t.Errorf("%s became %s %v", tc.mediaType, got.MediaType, got.URLs)
		}
	}
}
