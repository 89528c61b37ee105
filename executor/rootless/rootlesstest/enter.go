// Package rootlesstest lets the tests of a package run as root of a user namespace
// when an ordinary user runs them.
package rootlesstest

import (
	"fmt"
	"os"

	"layered.build/builder/executor/rootless"
)

// Enter belongs at the beginning of TestMain. For an ordinary user with ranges of
// ids it executes the test program anew, in a user namespace and a mount namespace
// of its own; BUILDER_TEST_ISOLATION=single asks for a namespace with one id. Where
// that does not work the tests run without, and those that need it are skipped.
func Enter() {
	if err := rootless.Init(); err != nil {
		fmt.Fprintln(os.Stderr, "test in a user namespace:", err)
		os.Exit(1)
	}
	want := rootless.Isolation(os.Getenv("BUILDER_TEST_ISOLATION"))
	if rootless.Entered() || os.Geteuid() == 0 && want == "" {
		return
	}
	if want == "" {
		want = rootless.Subuid
	}
	way, err := rootless.Choose(want, nil)
	if err == nil {
		err = way.Enter(true)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test without a user namespace:", err)
	}
}
