// What the kernel or a seccomp profile lets a process trace is only known when it
// tries, and a profile may kill it for that: a child tries.

#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "trace.h"

// An exit code is an errno, with this bit if it was the filter that failed.
#define FILTER 128

static int failed(int stage) { return stage | (errno & 127 ? errno & 127 : EPERM); }

static int reap(pid_t pid, int *status)
{
	while (waitpid(pid, status, __WALL) < 0)
		if (errno != EINTR)
			return -1;
	return 0;
}

// traced stops once, at a system call that its filter names.
static void traced(int go)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	char c;
	if (read(go, &c, 1) != 1)
		_exit(0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		_exit(failed(FILTER));
	syscall(SYS_getppid);
	_exit(0);
}

// tracer returns how tracing went.
static int tracer(void)
{
	int go[2], status, stops = 0;
	if (pipe(go) != 0)
		return failed(0);
	pid_t child = fork();
	if (child < 0)
		return failed(0);
	if (child == 0) {
		close(go[1]);
		traced(go[0]);
	}
	if (ptrace(PTRACE_SEIZE, child, NULL, (void *)(long)(PTRACE_O_TRACESECCOMP | PTRACE_O_EXITKILL)) != 0) {
		int code = failed(0);
		kill(child, SIGKILL);
		reap(child, &status);
		return code;
	}
	if (write(go[1], "", 1) != 1)
		return failed(0);
	for (;;) {
		if (reap(child, &status) != 0)
			return failed(0);
		if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
			return WEXITSTATUS(status);
		if (!WIFSTOPPED(status))
			return WIFEXITED(status) && stops > 0 ? 0 : FILTER | ENOSYS;
		stops += status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
		if (ptrace(PTRACE_CONT, child, NULL, NULL) != 0)
			return failed(0);
	}
}

int rootless_try_trace(int *filter)
{
	sigset_t all, before;
	int status;
	*filter = 0;
	sigfillset(&all); // handlers are the Go runtime's
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	if (pid == 0)
		_exit(tracer());
	int err = pid < 0 || reap(pid, &status) != 0 ? errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0)
		return err;
	if (!WIFEXITED(status))
		return EPERM;
	*filter = WEXITSTATUS(status) >= FILTER;
	return WEXITSTATUS(status) % FILTER;
}
