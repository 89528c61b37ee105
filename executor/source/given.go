package source

import (
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/manifest"
)

// Given is what the archive that a context came as says of an object and the object on
// this machine does not show.
type Given struct {
	// UID and GID are who it belongs to in an image. On this machine all objects of a
	// context belong to whoever builds.
	UID, GID uint32
	// Type, unless 0, says that another object stands for this one: an empty file for a
	// device, where nobody can make devices, or a file or directory that its owner may
	// use for one of another Mode.
	Type               manifest.Type
	Mode               uint32
	DevMajor, DevMinor int64
}

// apply completes what was seen of an object.
func (g *Given) apply(e *snapshot.Entry) {
	e.UID, e.GID = g.UID, g.GID
	if g.Type == 0 {
		return
	}
	e.Type, e.Mode = g.Type, g.Mode
	if g.Type == snapshot.TypeChar || g.Type == snapshot.TypeBlock {
		e.Size, e.DevMajor, e.DevMinor = 0, g.DevMajor, g.DevMinor
	}
}
