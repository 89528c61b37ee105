package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"layered.build/builder/snapshot/files"
)

// ErrInUse says that a layer cannot be removed now.
var ErrInUse = errors.New("layer is in use")

// Remove deletes a layer's data. It is no error if there is none. The error matches
// ErrInUse if InUse says so; then the layer stays. Layers that were derived from it
// (see Clamp), or share files with it in other ways, are complete without it. What
// else this Store does with the layer at the moment, such as reading a Tree, is the
// caller's to know. To remove many, use Collect.
func (s *Store) Remove(ctx context.Context, id LayerID) error {
	if err := checkID(id); err != nil {
		return err
	}
	tmp, err := s.takeAway(ctx, id)
	if err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return files.RemoveAll(tmp)
}

// takeAway moves a layer's folder to a temporary name, while no process can begin
// to use it.
func (s *Store) takeAway(ctx context.Context, id LayerID) (string, error) {
	lock, err := s.lease.Exclude(ctx)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	tmp := s.lease.TempName(tmpDir)
	if _, err := os.Lstat(s.layerPath(id)); errors.Is(err, fs.ErrNotExist) {
		return tmp, nil
	}
	if used, err := s.InUse(id); err != nil {
		return "", err
	} else if used {
		return "", ErrInUse
	}
	s.seen.Delete(id)
	return tmp, os.Rename(s.layerPath(id), tmp)
}

// InUse reports whether another living process, or another Store of this one, has
// used a layer, or this Store has it in an unfinished Active or gave it out in a
// View. The answer may be outdated at once, unless it is asked within Collect.
func (s *Store) InUse(id LayerID) (bool, error) {
	if s.isMounted(id) {
		return true, nil
	}
	pins, err := s.lease.OtherPins()
	return pins[layerPin(id)], err
}

func (s *Store) isMounted(id LayerID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a := range s.actives {
		if slices.ContainsFunc(a.parent, func(l Layer) bool { return l.ID == id }) {
			return true
		}
	}
	return s.views[id]
}
