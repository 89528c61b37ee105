package snapshot

import "layered.build/builder/snapshot/overlay"

// Mount is a file system that can be attached: an overlay of layer directories
// (read-only when Upper is ""), or one directory bound.
type Mount struct {
	// Lower are the layer directories, topmost first.
	Lower []string
	// Upper and Work receive changes; both are on one file system.
	Upper, Work string
	// Fuse has the program fuse-overlayfs mount what is more than one directory.
	Fuse bool
}

// Attach mounts m at target (a directory) in the calling thread's mount
// namespace. No Lower and an Upper binds Upper; one Lower and no Upper binds it
// read-only; neither gives an empty read-only directory.
func (m Mount) Attach(target string) error {
	switch {
	case m.Upper == "" && len(m.Lower) == 0:
		return overlay.Empty(target)
	case m.Upper == "" && len(m.Lower) == 1:
		return overlay.Bind(m.Lower[0], target, true)
	case len(m.Lower) == 0:
		return overlay.Bind(m.Upper, target, false)
	}
	spec := overlay.Spec{Lower: m.Lower, Upper: m.Upper, Work: m.Work}
	if m.Fuse {
		return overlay.MountFuse(spec, target)
	}
	return overlay.Mount(spec, target)
}
