package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrOwners says that a store's directories keep owners in another way than this
// process can.
var ErrOwners = errors.New("store keeps the owners of files in another way")

// ownersFile is there in a store whose directories record owners.
const ownersFile = "owners"

// checkOwners refuses a store that a process of the other kind made: it would show
// wrong owners.
func (s *Store) checkOwners() error {
	_, err := os.Lstat(s.path(ownersFile))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("open store: %w", err)
	case err == nil && !s.maker.Recording():
		return fmt.Errorf("%w: %s records them, since it was made with a single id or without the right to set them; name another folder with --root, use --isolation=single, or remove this one", ErrOwners, s.root)
	case err != nil && s.maker.Recording():
		return fmt.Errorf("%w: %s really has them, and this user has a single id or no right to set them; name another folder with --root, or remove this one", ErrOwners, s.root)
	}
	return nil
}
