package snapshot

// Imported reports whether a layer's tar was made elsewhere: it was pulled or
// loaded, or it is one that is still to be fetched.
func (s *Store) Imported(l Layer) bool {
	rec, err := s.loadLayer(l.ID)
	return err != nil || rec.Foreign
}
