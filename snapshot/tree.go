package snapshot

import (
	"context"
	"fmt"
	"slices"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/tree"
)

// Tree returns the merged, read-only view of a stack, without mounting anything.
// Layers that are not on disk are fetched. It works on the layers' manifests, so
// that it is as fast for layers that have no directory. The Tree is a HostPather.
func (s *Store) Tree(ctx context.Context, stack Stack) (Tree, error) {
	t, err := s.stackTree(ctx, stack, nil)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// stackTree makes the view of layers; those that have one of the lists, if there are any, are
// fetched when one of their files is opened, while ctx lasts.
func (s *Store) stackTree(ctx context.Context, stack Stack, lists []*manifest.Index) (*tree.Merged, error) {
	if lists == nil {
		lists = make([]*manifest.Index, len(stack))
	}
	if err := s.ensureThose(ctx, stack, false, func(i int) bool { return lists[i] == nil }); err != nil {
		return nil, err
	}
	t := tree.NewMerged()
	seen := map[LayerID]bool{}
	for i, l := range slices.Backward(stack) {
		if seen[l.ID] {
			continue
		}
		seen[l.ID] = true
		if lists[i] != nil {
			t.AddLate(lists[i], func() (tree.Forms, error) { return s.bring(ctx, stack, i) })
			continue
		}
		f, err := s.forms(l.ID)
		if err == nil {
			err = t.Add(f.List, f.Dir, f.Tar, f.Aliases...)
		}
		if err != nil {
			return nil, fmt.Errorf("read layer %s: %w", l.ID, err)
		}
	}
	return t, nil
}

// Manifest returns the layer's entries. The caller closes it.
func (s *Store) Manifest(ctx context.Context, l Layer) (*Manifest, error) {
	if err := s.ensure(ctx, Stack{l}, false); err != nil {
		return nil, err
	}
	idx, err := manifest.Open(s.layerPath(l.ID, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("read layer %s: %w", l.ID, err)
	}
	return manifest.NewReader(idx), nil
}
