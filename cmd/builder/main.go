// Command builder builds container images from Dockerfiles.
package main

import (
	"context"
	"os"

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

func run() int {
	limitMemory()
	return cli.Main(context.Background(), os.Args[1:], cli.Program{
		Streams: cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		Version: version,
	})
}
