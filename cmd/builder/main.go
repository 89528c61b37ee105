// Command builder builds container images from Dockerfiles.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"layered.build/builder/cmd/cli"
	"layered.build/builder/executor/chroot"
	"layered.build/builder/executor/doctor"
	"layered.build/builder/executor/runc"
)

// version is set by the linker.
var version string

func main() {
	chroot.Init()  // so are those of a step
	runc.Init()    // the first process of a container is this same binary
	doctor.Probe() // and so is what tries the rungs of isolation
	os.Exit(run())
}

// memoryLimit is where the garbage collector begins to work harder rather than let
// the process grow: large transfers must not need more memory than small ones.
const memoryLimit = 100 << 20

// collectAt is by how many percent of what it holds the heap may grow, below the
// limit, before it is collected. Most builds end before that.
const collectAt = 400

func run() int {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(collectAt) // the limit holds all the same
		}
	}
	return cli.Main(context.Background(), os.Args[1:], cli.Program{
		Streams: cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		Version: version,
	})
}
