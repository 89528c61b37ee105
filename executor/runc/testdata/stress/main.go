// Stress makes many threads change and look at owners and credentials at once while
// signals come in. It prints "ok" if every call did what it should. With the argument
// "ids" it prints its real, effective and saved ids instead.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const threads, rounds = 16, 150

func main() {
	if len(os.Args) > 1 {
		printIDs()
		return
	}
	// Signals with SA_RESTART, which interrupt whatever waits.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, syscall.SIGUSR1)
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
				_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			}
		}
	}()
	dir, err := os.MkdirTemp("/tmp", "stress")
	if err != nil {
		fail("mkdir", err)
	}
	var wg sync.WaitGroup
	for i := range threads {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runtime.LockOSThread()
			path := filepath.Join(dir, fmt.Sprint(i))
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				fail("write", err)
			}
			for n := range rounds {
				uid, gid := 1000*(i+1)+n, 7+n
				if err := os.Lchown(path, uid, gid); err != nil {
					fail("chown", err)
				}
				var st syscall.Stat_t
				if err := syscall.Stat(path, &st); err != nil || int(st.Uid) != uid || int(st.Gid) != gid {
					fail("stat", fmt.Errorf("%d:%d instead of %d:%d, %v", st.Uid, st.Gid, uid, gid, err))
				}
				if got := syscall.Getuid(); got != 0 {
					fail("getuid", fmt.Errorf("%d", got))
				}
			}
		}()
	}
	wg.Wait()
	close(stop)
	fmt.Println("ok")
}

func printIDs() {
	// As PAM does. The limit on file locks is not this process's own.
	for resource := range 16 {
		var l, now syscall.Rlimit
		if err := syscall.Getrlimit(resource, &l); err != nil {
			fail("getrlimit", err)
		}
		if err := syscall.Setrlimit(resource, &l); err != nil {
			fail("setrlimit", err)
		}
		if err := syscall.Getrlimit(resource, &now); err != nil || now != l {
			fail("getrlimit", fmt.Errorf("%v, then %v, %v", l, now, err))
		}
	}
	var u, g [3]uint32
	call := func(nr uintptr, ids *[3]uint32) {
		if _, _, errno := syscall.RawSyscall(nr, uintptr(unsafe.Pointer(&ids[0])), uintptr(unsafe.Pointer(&ids[1])), uintptr(unsafe.Pointer(&ids[2]))); errno != 0 {
			fail("get ids", errno)
		}
	}
	call(syscall.SYS_GETRESUID, &u)
	call(syscall.SYS_GETRESGID, &g)
	fmt.Printf("%d/%d/%d %d/%d/%d\n", u[0], u[1], u[2], g[0], g[1], g[2])
}

func fail(what string, err error) {
	fmt.Println(what, err)
	os.Exit(1)
}
