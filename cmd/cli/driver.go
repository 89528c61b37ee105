package cli

import (
	"os"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot"
)

// snapshotDriver is how stacks become root file systems in the store:
// $BUILDER_SNAPSHOT_DRIVER, else the fastest that works on this rung.
func (a *app) snapshotDriver(root string) (snapshot.Driver, error) {
	if name := os.Getenv("BUILDER_SNAPSHOT_DRIVER"); name != "" && name != "auto" {
		d, err := snapshot.ParseDriver(name)
		if err != nil {
			return "", mistake.New("BUILDER_SNAPSHOT_DRIVER: %w", err)
		}
		return d, nil
	}
	if a.isolation == rootless.Chroot {
		return snapshot.DriverCopy, nil
	}
	d, _, err := snapshot.ChooseDriver(root)
	return d, err
}
