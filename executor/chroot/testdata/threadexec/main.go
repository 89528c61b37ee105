// Threadexec executes its arguments from a thread that is not the process's first. With
// none it prints its effective user id.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Println(os.Geteuid())
		return
	}
	done := make(chan error)
	runtime.LockOSThread() // so that the goroutine gets another thread
	go func() {
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			done <- fmt.Errorf("on the first thread")
			return
		}
		done <- syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
	}()
	fmt.Fprintln(os.Stderr, <-done)
	os.Exit(1)
}
