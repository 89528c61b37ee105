// Package thread runs functions on operating system threads that have namespaces of
// their own, which end with them.
package thread

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Namespaces are those that a private thread makes for itself.
type Namespaces int

const (
	MountsOnly    Namespaces = iota // the others are entered
	AllButNetwork                   // mounts, IPC, host name
	AllNamespaces                   // and the network
)

// Run runs f on an operating system thread of its own, with
// namespaces of its own for what ns says.
// The thread ends with f, and the namespaces with the thread and what it
// started: whatever f mounts is gone then, also when this process is killed
// meanwhile.
func Run(ns Namespaces, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The runtime cannot end the main thread: it would keep its namespaces as
			// long as the process lives. While it is locked here, the next goroutine
			// gets another one.
			done <- Run(ns, f)
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the runtime ends the thread with the goroutine.
		err := unshare(ns)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func unshare(ns Namespaces) error {
	// CLONE_FS: the threads of a process share root and working directory, which
	// a thread with another mount namespace cannot.
	flags := unix.CLONE_FS | unix.CLONE_NEWNS
	if ns != MountsOnly {
		flags |= unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	if ns == AllNamespaces {
		flags |= unix.CLONE_NEWNET
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("unshare namespaces: %w", err)
	}
	// Slave, so that what the host unmounts meanwhile is not kept busy here.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	unix.Umask(0) // the thread's own, since it shares no file system state
	return nil
}
