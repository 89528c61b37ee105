package tree

import "layered.build/builder/snapshot"

// links finds hard links while a tree is written.
type links struct {
	tree    snapshot.SameFiler // nil: it knows of none
	written map[string]string  // path, by what its hard links have in common
}

func newLinks(t snapshot.Tree) *links {
	same, _ := t.(snapshot.SameFiler)
	return &links{tree: same, written: map[string]string{}}
}

// first returns the path at which an object that is no directory has been written; it
// reports false for one that has not been, which is taken for written then.
func (l *links) first(e *snapshot.Entry) (string, bool) {
	if l.tree == nil || e.Type == snapshot.TypeDir {
		return "", false
	}
	name := l.tree.SameFile(e.Path)
	if name == "" {
		return "", false
	}
	first, ok := l.written[name]
	if !ok {
		l.written[name] = e.Path
	}
	return first, ok
}
