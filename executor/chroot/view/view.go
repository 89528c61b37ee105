// Package view translates paths: those of a step, whose files are a root directory and
// bindings, into those of this machine and back. Symlinks are followed as the kernel
// would follow them if the step had a root and mounts of its own.
package view

import (
	"strings"
)

// Binding shows a file or directory of this machine at a place in the root.
type Binding struct {
	Guest, Host string
	ReadOnly    bool
}

// View is what the processes of a step see: a root directory and bindings.
type View struct {
	Root     string
	ReadOnly bool
	Bindings []Binding // of several for one place the last one counts
}

// Place is an object as the step names it and as this machine does.
type Place struct {
	Guest, Host string
	ReadOnly    bool
}

// At returns the place with a name that has no symlinks. The topmost binding is the
// longest one.
func (v *View) At(guest string) Place {
	best := -1
	for i := range v.Bindings {
		b := v.Bindings[i].Guest
		if (guest == b || Under(guest, b)) && (best < 0 || len(b) >= len(v.Bindings[best].Guest)) {
			best = i
		}
	}
	if best >= 0 {
		b := &v.Bindings[best]
		return Place{Guest: guest, Host: b.Host + guest[len(b.Guest):], ReadOnly: b.ReadOnly}
	}
	if guest == "/" {
		return Place{Guest: guest, Host: v.Root, ReadOnly: v.ReadOnly}
	}
	return Place{Guest: guest, Host: v.Root + guest, ReadOnly: v.ReadOnly}
}

// Named returns the place that this machine calls host; false if the step cannot
// see it.
func (v *View) Named(host string) (Place, bool) {
	if !strings.HasPrefix(host, "/") {
		return Place{}, false
	}
	best, length := Place{}, -1
	for _, b := range v.Bindings {
		if (host == b.Host || Under(host, b.Host)) && len(b.Host) > length {
			best, length = Place{Guest: b.Guest + host[len(b.Host):], Host: host, ReadOnly: b.ReadOnly}, len(b.Host)
		}
	}
	if (host == v.Root || Under(host, v.Root)) && len(v.Root) > length {
		best, length = Place{Guest: host[len(v.Root):], Host: host, ReadOnly: v.ReadOnly}, len(v.Root)
	}
	if best.Guest == "" {
		best.Guest = "/"
	}
	return best, length >= 0
}

// hasBelow reports whether a binding lies below a place, so that the place is there
// even if the root has nothing.
func (v *View) hasBelow(guest string) bool {
	for _, b := range v.Bindings {
		if Under(b.Guest, guest) {
			return true
		}
	}
	return false
}

// IsPoint reports whether something is mounted exactly there.
func (v *View) IsPoint(guest string) bool {
	for _, b := range v.Bindings {
		if b.Guest == guest {
			return true
		}
	}
	return guest == "/"
}

// Under reports whether a path lies below a directory. Both have no symlinks and no
// slash at their ends.
func Under(p, dir string) bool {
	return len(p) > len(dir) && strings.HasPrefix(p, dir) && (p[len(dir)] == '/' || dir == "/")
}
