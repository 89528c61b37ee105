package snapshot

import "context"

// borrow makes a layer that would have to be fetched out of one with the same tar
// on other layers, such as COPY --link and rebased images leave. Files are hard
// links. It is false if there is none, or if that does not work here; then the layer
// is fetched. The caller holds the layer's lock.
func (s *Store) borrow(ctx context.Context, l lazyLayer) bool {
	for _, id := range s.movable(l.DiffID) {
		if id != l.layer.ID && s.borrowFrom(ctx, id, l) == nil {
			return true
		}
	}
	return false
}

func (s *Store) borrowFrom(ctx context.Context, id LayerID, l lazyLayer) error {
	// The lock keeps the layer's form from changing. Nobody is waited for: the
	// caller holds another lock.
	lock, err := s.lease.TryLock(string(id))
	if err != nil {
		return ErrInUse
	}
	defer lock.Remove()
	rec, err := s.loadLayer(id)
	if err != nil {
		return err
	}
	if l.Content != "" && rec.Layer.Content != l.Content {
		return ErrDigest
	}
	d := &derivation{s: s, rec: rec, below: l.parent, keep: true}
	made, err := d.run(ctx)
	if err != nil {
		return err
	}
	return s.SetBlob(made, l.Blob)
}

// movable lists the layers with a DiffID whose directory is the same on any other
// layers. The store is read once; what other processes add later is not found.
func (s *Store) movable(d DiffID) []LayerID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byDiff == nil {
		s.byDiff = map[DiffID][]LayerID{}
		all, _ := s.Survey() // what cannot be read is fetched
		for _, l := range all {
			if rec, err := s.readLayer(l.ID); err == nil && rec.Movable {
				s.byDiff[l.DiffID] = append(s.byDiff[l.DiffID], l.ID)
			}
		}
	}
	return append([]LayerID(nil), s.byDiff[d]...)
}

// noteMovable remembers a layer that was just made.
func (s *Store) noteMovable(rec *layerRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := rec.Layer.DiffID; rec.Movable && s.byDiff != nil {
		s.byDiff[d] = append(s.byDiff[d], rec.Layer.ID)
	}
}
