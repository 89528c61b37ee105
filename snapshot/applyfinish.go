package snapshot

import (
	"path"
	"path/filepath"
	"slices"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// finish makes whiteouts, completes directories and writes the manifest.
func (a *applier) finish() (*layerRecord, error) {
	rec := &layerRecord{Foreign: true, Root: a.root, Movable: a.isMovable()}
	if len(a.spec.parent) > 0 {
		if err := a.hideBelow(rec); err != nil {
			return nil, err
		}
	}
	paths := make([]string, 0, len(a.nodes))
	for p := range a.nodes {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, manifest.ComparePaths)
	for _, p := range slices.Backward(paths) {
		if n := a.nodes[p]; n.entry.Type == TypeDir {
			if err := a.m.SetMeta(a.host(p), &n.entry); err != nil {
				return nil, err
			}
		}
	}
	if err := a.finishRoot(); err != nil {
		return nil, err
	}
	return rec, a.writeManifest(paths)
}

func (a *applier) finishRoot() error {
	root := object.Root{Mode: 0o755}
	if a.root != nil {
		root = *a.root
	}
	if err := a.m.SetRoot(a.dir, root); err != nil {
		return err
	}
	if a.opaque["."] && len(a.spec.parent) > 0 {
		return a.m.MarkOpaque(a.dir)
	}
	return nil
}

// hideBelow makes whiteouts and opaque marks. Where the layer has an object at a
// whiteout's path, that object hides what is below already, unless both are
// directories.
func (a *applier) hideBelow(rec *layerRecord) error {
	for p := range a.opaque {
		if n, ok := a.nodes[p]; ok && n.entry.Type == TypeDir {
			n.entry.Opaque = true
			rec.Whiteouts = true
		}
	}
	for p := range a.whiteouts {
		if n, ok := a.nodes[p]; ok {
			n.entry.Opaque = n.entry.Type == TypeDir
			rec.Whiteouts = rec.Whiteouts || n.entry.Opaque
			continue
		}
		if dir := path.Dir(p); dir != "." {
			if n, ok := a.nodes[dir]; !ok || n.entry.Type != TypeDir {
				continue // the directory was replaced
			}
		}
		n := &node{entry: Entry{Path: p, Type: TypeWhiteout}, file: -1}
		if err := a.m.Create(a.host(p), &n.entry); err != nil {
			return err
		}
		a.nodes[p] = n
		rec.Whiteouts = true
	}
	return nil
}

func (a *applier) writeManifest(paths []string) error {
	man, err := manifest.Create(filepath.Join(a.tmp, manifestFile))
	if err != nil {
		return err
	}
	add := func(e Entry) {
		if err == nil {
			err = man.Add(&manifest.Record{Entry: e})
		}
	}
	if a.root != nil || a.opaque["."] {
		e := Entry{Path: ".", Type: TypeDir, Mode: 0o755, Opaque: a.opaque["."] && len(a.spec.parent) > 0}
		if a.root != nil {
			e.Mode, e.UID, e.GID = a.root.Mode, a.root.UID, a.root.GID
		}
		add(e)
	}
	first := map[*fileInode]string{}
	for _, p := range paths {
		n := a.nodes[p]
		if n.ino != nil {
			n.entry.Size, n.entry.Digest, n.entry.Hardlink = n.ino.size, n.ino.digest, first[n.ino]
			if n.entry.Hardlink == "" {
				first[n.ino] = p
			}
		}
		add(n.entry)
	}
	if err != nil {
		man.Abort()
		return err
	}
	_, err = man.Finish()
	return err
}
