package snapshot

import (
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// Entry is one object of a layer or of a tree.
type Entry = manifest.Entry

// EntryType is the type of a file system object.
type EntryType = manifest.Type

// The entry types.
const (
	TypeFile     = manifest.TypeFile
	TypeDir      = manifest.TypeDir
	TypeSymlink  = manifest.TypeSymlink
	TypeChar     = manifest.TypeChar
	TypeBlock    = manifest.TypeBlock
	TypeFifo     = manifest.TypeFifo
	TypeSocket   = manifest.TypeSocket
	TypeWhiteout = manifest.TypeWhiteout
)

// Manifest streams the entries of a layer.
type Manifest = manifest.Reader

// IsLayerXattr says which extended attributes belong to a layer's content.
func IsLayerXattr(name string) bool { return object.IsLayerXattr(name) }
