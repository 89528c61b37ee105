package runc

import (
	"fmt"
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before the Go runtime starts
	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/confine"
	"layered.build/builder/executor/sandbox"
)

// loaderFd is the socket on which a container's first process gets its seccomp
// programs: the first of the files that libcontainer passes on.
const loaderFd = 3

// Init takes over if this process was started to become a container's first
// process; then it does not return. Otherwise it returns at once. It belongs at
// the very beginning of main, and of TestMain in packages whose tests run
// containers.
func Init() {
	if len(os.Args) < 2 || os.Args[1] != "init" || os.Getenv("_LIBCONTAINER_INITPIPE") == "" {
		return
	}
	runtime.LockOSThread()
	if err := prepareInit(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare container:", err)
		os.Exit(255)
	}
	libcontainer.Init()
}

func prepareInit() error {
	// The kernel clears the parent death signal at every fork, so that the one
	// that libcontainer gives to the process it starts is lost by the time that
	// this third process is born. libcontainer keeps what is set here across
	// its change of credentials.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent death signal: %w", err)
	}
	sandbox.HeedSignals()
	return confine.Receive(loaderFd)
}
