// Command builder builds container images from Dockerfiles.
package main

import (
	"context"
	"os"

	"layered.build/builder/cmd/cli"
	"layered.build/builder/executor/runc"
)

// version is set by the linker.
var version string

func main() {
	runc.Init() // the first process of a container is this same binary
	os.Exit(run())
}

func run() int {
	return cli.Main(context.Background(), os.Args[1:], cli.Program{
		Streams: cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		Version: version,
	})
}
