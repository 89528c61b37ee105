package registry

import (
	"time"

	image "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// HistoryEntry is one line of docker history, the newest first.
type HistoryEntry struct {
	// ID is the image id for the newest line, the V1 id of the step where one is
	// kept, else "<missing>".
	ID        string
	Created   time.Time
	CreatedBy string
	// Size is the number of bytes of the instruction's layer.
	Size    int64
	Comment string
	Tags    []string `json:",omitempty"`
}

// Inspect is what docker inspect prints of an image.
type Inspect struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      string
	Author       string
	Config       *image.DockerOCIImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64
	RootFS       InspectRootFS
	Descriptor   *ocispec.Descriptor `json:",omitempty"`
}

// InspectRootFS lists an image's layers by DiffID.
type InspectRootFS struct {
	Type   string
	Layers []string
}
