package image

import (
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"layered.build/builder/snapshot"
)

// V1Image is Docker's classic image record: what one instruction left, and what
// made it.
type V1Image struct {
	ID              string                           `json:"id"`
	Parent          string                           `json:"parent,omitempty"`
	Comment         string                           `json:"comment,omitempty"`
	Created         *time.Time                       `json:"created"`
	ContainerConfig dockerspec.DockerOCIImageConfig  `json:"container_config"`
	DockerVersion   string                           `json:"docker_version,omitempty"`
	Author          string                           `json:"author,omitempty"`
	Config          *dockerspec.DockerOCIImageConfig `json:"config,omitempty"`
	Architecture    string                           `json:"architecture,omitempty"`
	Variant         string                           `json:"variant,omitempty"`
	OS              string                           `json:"os,omitempty"`
	// Size is the number of bytes of this instruction's layer.
	Size int64 `json:"Size"`
}

// V1Maker makes a record when it is missing. It is valid while the function lasts that was
// given it.
type V1Maker struct {
	ID string
	// Encode returns the record in JSON, as encoding/json has it.
	Encode func() ([]byte, error)
}

// V1Record is a V1Image with what is needed to run it and to build on it.
type V1Record struct {
	V1Image
	// Stack is the file system after the instruction.
	Stack snapshot.Stack `json:"stack"`
	// Image is the configuration after the instruction, with rootfs and the
	// history so far.
	Image Config `json:"image"`
}
