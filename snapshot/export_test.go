package snapshot

import "testing"

// DropKept deletes the directories that could be continued from.
func (s *Store) DropKept(t testing.TB) {
	if err := s.dropKept(); err != nil {
		t.Error(err)
	}
}
