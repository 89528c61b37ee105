package snapshot

import (
	"errors"

	"layered.build/builder/snapshot/changes"
	"layered.build/builder/snapshot/lease"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/pack"
	"layered.build/builder/snapshot/tree"
)

// What follows is defined by the packages that the store stands on, and is part of what
// the store is asked and answers: who uses a store need not name them.

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

// Tree is a read-only file tree: the merged view of a layer stack, or a build
// context.
type Tree = tree.Tree

// SameFiler is a Tree that knows which of its paths are one object.
type SameFiler = tree.SameFiler

// HostPather is a Tree that can say where an object really lies on this machine.
type HostPather = tree.HostPather

// ResolvePath follows the symlinks of a path inside a tree.
func ResolvePath(t Tree, p string, followLast bool) (string, error) {
	return tree.ResolvePath(t, p, followLast)
}

// Walk calls fn for root and everything below it, parents first.
func Walk(t Tree, root string, fn func(*Entry) error) error { return tree.Walk(t, root, fn) }

// ErrChanged says that a file of a Tree is not what it was when it was looked at. Who looks
// anew may find it as it is now.
var ErrChanged = errors.New("changed while it was read")

// Change is one entry of a layer that is being made.
type Change = changes.Change

// Inspector sees the entries of a layer while it is made, and may refuse it.
type Inspector = pack.Inspector

// Account is what those that use a store know together about its size.
type Account = lease.Account

// Room is asked before the store grows.
type Room = lease.Room
