package runc

/*
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int read_all(int fd, void *buf, size_t n) {
	char *p = buf;
	while (n > 0) {
		ssize_t r = read(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -1;
		p += r;
		n -= r;
	}
	return 0;
}

// At most BPF_MAXINSNS instructions.
static struct sock_filter program[4096];

// load waits for a program and puts it on all threads of the process. It is a
// thread of C, not of Go, because it sleeps in a system call while the Go runtime
// is confined to one processor, and because it must keep its capabilities when
// the others give theirs up.
static void *load(void *arg) {
	int fd = (int)(intptr_t)arg;
	uint32_t len;
	int32_t result = 0;
	if (prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0)
		result = errno;
	if (read_all(fd, &len, sizeof len) != 0 || len > sizeof program || read_all(fd, program, len) != 0)
		return NULL;
	struct sock_fprog prog = {.len = len / sizeof program[0], .filter = program};
	if (result == 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0)
		result = errno;
	if (write(fd, &result, sizeof result) < 0)
		return NULL;
	return NULL;
}

static int start_loader(int fd) {
	pthread_t t;
	return pthread_create(&t, NULL, load, (void *)(intptr_t)fd);
}
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"

	"github.com/opencontainers/runc/libcontainer"
	_ "github.com/opencontainers/runc/libcontainer/nsenter" // enters the namespaces before the Go runtime starts
	"golang.org/x/sys/unix"
)

// loaderFd is the socket on which a container's first process gets its seccomp
// program: the first of the files that libcontainer passes on.
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
	unix.CloseOnExec(loaderFd)
	if errno := C.start_loader(loaderFd); errno != 0 {
		return fmt.Errorf("start thread: %w", unix.Errno(errno))
	}
	return nil
}
