package snapshot_test

import (
	"testing"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

func TestOverlay(t *testing.T) {
	snapshottest.Run(t, func(t testing.TB) *snapshot.Store { return openStore(t) })
}

func TestCopy(t *testing.T) {
	snapshottest.Run(t, func(t testing.TB) *snapshot.Store { return openCopyStore(t) })
}
