package confine

/*
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
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

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

// put installs the program on all threads. If notify is set it returns the
// descriptor that notifications are received from, else 0.
static int put(struct sock_fprog *prog, int notify) {
	unsigned long flags = SECCOMP_FILTER_FLAG_TSYNC;
	if (!notify)
		return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, prog);
	flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
	// Linux 5.19: no signal but a deadly one interrupts a call that is being answered.
	int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, prog);
	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, prog);
	return fd;
}

// answer sends a result, with a descriptor unless it is negative.
static int answer(int to, int32_t result, int fd) {
	char control[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec iov = {.iov_base = &result, .iov_len = sizeof result};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (fd >= 0) {
		msg.msg_control = control;
		msg.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(to, &msg, MSG_NOSIGNAL) < 0;
}

// load waits for programs and puts them on all threads of the process. It is a
// thread of C, not of Go, because it sleeps in a system call while the Go runtime
// is confined to one processor, and because it must keep its capabilities when
// the others give theirs up.
static void *load(void *arg) {
	int fd = (int)(intptr_t)arg;
	struct { uint32_t len, notify; } head;
	int32_t failed = 0;
	if (prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0)
		failed = errno;
	while (read_all(fd, &head, sizeof head) == 0) {
		if (head.len > sizeof program || read_all(fd, program, head.len) != 0)
			return NULL;
		struct sock_fprog prog = {.len = head.len / sizeof program[0], .filter = program};
		int listener = -1;
		int32_t result = failed;
		if (result == 0) {
			listener = put(&prog, head.notify);
			if (listener < 0)
				result = errno;
		}
		if (answer(fd, result, head.notify ? listener : -1) != 0)
			return NULL;
		if (head.notify && listener >= 0)
			close(listener);
	}
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

	"golang.org/x/sys/unix"
)

// Receive starts the thread that waits on a socket, the other end of a loader's, for
// seccomp programs and puts them on all threads of this process. It ends with the
// socket. What is written to os.Stderr from then on goes there too (see
// Loader.LastWords), and no more to the container's.
func Receive(fd int) error {
	unix.CloseOnExec(fd)
	if errno := C.start_loader(C.int(fd)); errno != 0 {
		return fmt.Errorf("start thread: %w", unix.Errno(errno))
	}
	os.Stderr = os.NewFile(uintptr(fd), "last-words")
	return nil
}
