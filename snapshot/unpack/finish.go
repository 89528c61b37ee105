package unpack

import (
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// finish makes whiteouts, completes directories and writes the manifest.
func (a *applier) finish() (*Layer, error) {
	out := &Layer{Root: a.root, Movable: a.isMovable(), Empty: a.isEmpty(), LeavesOut: a.pool.leavesOut}
	if a.Based || a.Own { // an own layer has its whiteouts wherever it is
		if err := a.hideBelow(out); err != nil {
			return nil, err
		}
	}
	paths := make([]string, 0, len(a.nodes))
	for p := range a.nodes {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, manifest.ComparePaths)
	for _, p := range slices.Backward(paths) {
		if n := a.nodes[p]; n.entry.Type == manifest.TypeDir {
			if err := a.Maker.SetMeta(a.host(p), &n.entry); err != nil {
				return nil, err
			}
		}
	}
	if err := a.finishRoot(); err != nil {
		return nil, err
	}
	var err error
	out.Content, err = a.writeManifest(paths)
	return out, err
}

func (a *applier) finishRoot() error {
	root := object.Root{Mode: 0o755}
	if a.root != nil {
		root = *a.root
	}
	if err := a.Maker.SetRoot(a.Dir, root); err != nil {
		return err
	}
	if a.opaque["."] && a.Based {
		return a.Maker.MarkOpaque(a.Dir)
	}
	return nil
}

// hideBelow makes whiteouts and opaque marks. Where the layer has an object at a
// whiteout's path, that object hides what is below already, unless both are
// directories.
func (a *applier) hideBelow(out *Layer) error {
	for p := range a.opaque {
		if n, ok := a.nodes[p]; ok && n.entry.Type == manifest.TypeDir {
			n.entry.Opaque = true
			out.Whiteouts = true
		}
	}
	for p := range a.whiteouts {
		if n, ok := a.nodes[p]; ok {
			n.entry.Opaque = n.entry.Type == manifest.TypeDir
			out.Whiteouts = out.Whiteouts || n.entry.Opaque
			continue
		}
		if dir := path.Dir(p); dir != "." {
			if n, ok := a.nodes[dir]; !ok || n.entry.Type != manifest.TypeDir {
				continue // the directory was replaced
			}
		}
		n := &node{entry: manifest.Entry{Path: p, Type: manifest.TypeWhiteout}, file: -1}
		if err := a.Maker.Create(a.host(p), &n.entry); err != nil {
			return err
		}
		a.nodes[p] = n
		out.Whiteouts = true
	}
	return nil
}

func (a *applier) writeManifest(paths []string) (digest.Digest, error) {
	man, err := manifest.Create(a.Manifest)
	if err != nil {
		return "", err
	}
	add := func(e manifest.Entry) {
		if err == nil {
			err = man.Add(&manifest.Record{Entry: e})
		}
	}
	if a.root != nil || a.opaque["."] {
		e := manifest.Entry{Path: ".", Type: manifest.TypeDir, Mode: 0o755, Opaque: a.opaque["."] && a.Based}
		if a.root != nil {
			e.Mode, e.UID, e.GID = a.root.Mode, a.root.UID, a.root.GID
		}
		add(e)
	}
	first := map[*fileInode]string{}
	for _, p := range paths {
		n := a.nodes[p]
		if n.ino != nil {
			if last := n.ino.last; last != nil {
				n.entry = *last
				n.entry.Path = p
			}
			n.entry.Size, n.entry.Digest, n.entry.Hardlink = n.ino.size, n.ino.digest, first[n.ino]
			if n.entry.Hardlink == "" {
				first[n.ino] = p
			}
		}
		add(n.entry)
	}
	if err != nil {
		man.Abort()
		return "", err
	}
	return man.Finish()
}

// isMovable reports whether nothing in the directory comes from the layers below or
// depends on whether there are any.
func (a *applier) isMovable() bool {
	return !a.looked && len(a.whiteouts) == 0 && len(a.opaque) == 0
}

// isEmpty reports whether the layer changes nothing.
func (a *applier) isEmpty() bool { return len(a.nodes) == 0 && a.root == nil }
