package local

import (
	"path/filepath"

	"layered.build/builder/executor/cachemount"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/files"
)

// Reclaim removes what killed processes left outside of the store's own reach:
// secrets in memory, ssh sockets and files that were laid out for mounts. A build
// calls it when it starts, so that a secret does not outlive its process longer
// than until then.
func Reclaim(store *snapshot.Store) {
	for _, dir := range memoryDirs() {
		files.Sweep(dir, secretPrefix())
	}
	files.Sweep(filepath.Join(store.Root(), runFolder), "")
	files.Sweep(filepath.Join(store.Root(), mountsFolder), cachemount.Making)
}
