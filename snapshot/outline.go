package snapshot

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/tree"
)

// maxOutline is how many bytes the list of a layer's entries may have that comes from
// elsewhere.
const maxOutline = 256 << 20

// Outlines know the entries of layers that the store has not. Implementations are safe for
// concurrent use.
type Outlines interface {
	// Entries reads what WriteEntries wrote elsewhere of the layer that completes a chain;
	// the caller closes it. What is read to its end is what was written. The error matches
	// fs.ErrNotExist if nothing is known. Foreign says that nobody can verify the list: only
	// one from who is trusted to say what is in images may be returned.
	Entries(ctx context.Context, chain ChainID, foreign bool) (io.ReadCloser, error)
}

// SetOutlines says who is asked for the entries of layers that are not here.
func (s *Store) SetOutlines(o Outlines) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outlines = o
}

// WriteEntries writes the list of a layer's entries, as Outlines give it to other stores.
// The error matches fs.ErrNotExist if the layer is not here.
func (s *Store) WriteEntries(l Layer, w io.Writer) error {
	if !s.onDisk(l.ID) {
		return fmt.Errorf("entries of layer %s: %w", l.ID, fs.ErrNotExist)
	}
	f, err := os.Open(s.layerPath(l.ID, manifestFile))
	if err != nil {
		return fmt.Errorf("entries of layer %s: %w", l.ID, err)
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// Outline is Tree for those who may need the contents of no file: of layers that are not on
// disk, and whose entries somebody knows, nothing is fetched until a file is opened, and
// then only the layer that the file is in. The Tree is used while ctx lasts.
func (s *Store) Outline(ctx context.Context, stack Stack) (Tree, error) {
	lists, err := s.outlinesOf(ctx, stack)
	if err != nil {
		return nil, err
	}
	t, err := s.stackTree(ctx, stack, lists)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// bring fetches one layer of a stack. Close waits for it.
func (s *Store) bring(ctx context.Context, stack Stack, at int) (tree.Forms, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return tree.Forms{}, fs.ErrClosed
	}
	s.bringing.Add(1)
	s.mu.Unlock()
	defer s.bringing.Done()
	if err := s.ensureThose(ctx, stack[:at+1], false, func(i int) bool { return i == at }); err != nil {
		return tree.Forms{}, err
	}
	return s.forms(stack[at].ID)
}

// forms are where the parts of a layer lie that is on disk.
func (s *Store) forms(id LayerID) (tree.Forms, error) {
	rec, err := s.loadLayer(id)
	if err != nil {
		return tree.Forms{}, err
	}
	return tree.Forms{List: s.layerPath(id, manifestFile), Dir: s.layerPath(id, dirForm), Tar: s.layerPath(id, tarForm), Aliases: rec.aliases()}, nil
}

// outlinesOf finds the entries of the layers of a stack that are not on disk; nil are those
// that are there, or have to be fetched.
func (s *Store) outlinesOf(ctx context.Context, stack Stack) ([]*manifest.Index, error) {
	lists := make([]*manifest.Index, len(stack))
	s.mu.Lock()
	from := s.outlines
	s.mu.Unlock()
	if from == nil {
		return lists, nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, l := range stack {
		if s.onDisk(l.ID) {
			continue
		}
		g.Go(func() error {
			list, err := s.outline(gctx, from, l)
			if err == nil {
				lists[i] = list
			}
			return context.Cause(gctx) // what is not known is fetched
		})
	}
	return lists, g.Wait()
}

// outline gets the entries of one layer, once.
func (s *Store) outline(ctx context.Context, from Outlines, l Layer) (*manifest.Index, error) {
	s.mu.Lock()
	known := s.outlined[l.ID]
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	r, err := from.Entries(ctx, l.Completes(), l.Foreign())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	list, err := manifest.Take(s.lease.TempName(tmpDir), r, maxOutline)
	if err != nil {
		return nil, err
	}
	got, err := list.Content()
	if err != nil {
		return nil, err
	}
	if !l.Foreign() && got != l.Content {
		return nil, fmt.Errorf("%w: entries of layer %s", ErrDigest, l.ID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outlined == nil {
		s.outlined = map[LayerID]*manifest.Index{}
	}
	s.outlined[l.ID] = list
	return list, nil
}
