package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/folder"
	"layered.build/builder/snapshot/layerdir"
	"layered.build/builder/snapshot/owner"
)

// A store that somebody copied, or archived and restored, has files that are not as they
// were: an ordinary user cannot give them to others, and tar leaves attributes and
// set-user-ID bits out. What was meant is in the layers' manifests.
const (
	placeFile   = "place"    // which file the store's mark was when the store was made
	restoredDir = "restored" // has an empty file for each layer of a copied store that was not looked at since
)

// notePlace finds out whether the store is a copy. Then the directories of all layers have
// to be looked at before they are used.
func (s *Store) notePlace(ctx context.Context) error {
	in, err := owner.InodeOf(unix.AT_FDCWD, s.path(folder.VersionFile))
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	here := fmt.Sprintf("%d %d.%09d\n", in.Number, in.Seconds, in.Nanoseconds)
	if s.isAt(here) {
		_, err := os.Lstat(s.path(restoredDir))
		s.restored = err == nil
		return nil
	}
	lock, err := s.lease.Lock(ctx, placeFile)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	defer lock.Remove()
	if _, err := os.Lstat(s.path(placeFile)); err == nil && !s.isAt(here) {
		if err := s.noteRestored(); err != nil {
			return fmt.Errorf("open store that was copied: %w", err)
		}
	}
	_, err = os.Lstat(s.path(restoredDir))
	s.restored = err == nil
	return s.lease.WriteFile(s.path(placeFile), []byte(here))
}

func (s *Store) isAt(here string) bool {
	b, err := os.ReadFile(s.path(placeFile))
	return err == nil && string(b) == here
}

// noteRestored marks all layers.
func (s *Store) noteRestored() error {
	if err := files.RemoveAll(s.path(rootsDir)); err != nil { // they are made again
		return err
	}
	if err := os.MkdirAll(s.path(restoredDir), 0o700); err != nil {
		return err
	}
	ids, err := s.IDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !s.hasForm(id, dirForm) {
			continue
		}
		if err := os.WriteFile(s.path(restoredDir, string(id)), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// isRestored reports whether a layer's directory has to be looked at before it is used.
func (s *Store) isRestored(id LayerID) bool {
	if !s.restored {
		return false
	}
	_, err := os.Lstat(s.path(restoredDir, string(id)))
	return err == nil
}

// restore gives all in a layer's directory the owners, modes, attributes and types that they
// had. The caller holds the layer's lock.
func (s *Store) restore(id LayerID) (err error) {
	scratch, err := s.lease.TempDir(tmpDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.RemoveAll(scratch)) }()
	if !s.hasForm(id, dirForm) {
		return nil
	}
	rec, err := s.loadLayer(id)
	if err == nil {
		err = s.layerDir(id).Restore(scratch, rec.Root)
	}
	if err == nil {
		err = s.NoteLacking(s.layerPath(id))
	}
	if err != nil {
		return fmt.Errorf("the store was copied, and not all of it (builder store check --repair removes what is not whole, builder store export writes all): %w", err)
	}
	err = os.Remove(s.path(restoredDir, string(id)))
	_ = os.Remove(s.path(restoredDir)) // if it was the last one
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Restore gives all in a layer's directory the owners, modes, attributes and types that its
// manifest says (see layerdir.ErrDirectory).
func (s *Store) Restore(ctx context.Context, id LayerID) error {
	s.pinLayer(id)
	lock, err := s.lease.Lock(ctx, string(id))
	if err != nil {
		return err
	}
	defer lock.Remove()
	return s.restore(id)
}

// Mend is Restore of a layer that was not looked at since the store was copied; of others it
// does nothing. The caller holds the layer's lock.
func (s *Store) Mend(id LayerID) error {
	if !s.isRestored(id) {
		return nil
	}
	return s.restore(id)
}

// layerDir is a layer's directory.
func (s *Store) layerDir(id LayerID) layerdir.Dir {
	return layerdir.Dir{Maker: s.maker, Path: s.layerPath(id, dirForm), Manifest: s.layerPath(id, manifestFile)}
}

// checkDir compares a layer's directory with its manifest. In a store that was copied it is
// made equal first, as it is before it is used.
func (s *Store) checkDir(ctx context.Context, id LayerID) error {
	if s.isRestored(id) {
		if err := s.Restore(ctx, id); err != nil {
			return err
		}
	}
	if !s.hasForm(id, dirForm) || s.hasForm(id, lackingFile) {
		return nil
	}
	return s.layerDir(id).Check()
}
