// Runs before the Go runtime, while the process has one thread. Does nothing but
// look for one variable unless Enter has executed the program anew.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "enter.h"

static int entered;
static char failure[512];

int rootless_entered(void) { return entered; }
const char *rootless_failure(void) { return failure; }

static void fail(const char *what)
{
	snprintf(failure, sizeof failure, "%s: %s", what, strerror(errno));
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	int err = errno;
	close(fd);
	errno = err;
	return n < 0 ? -1 : 0;
}

// run executes "PROGRAM WORDS" as "PROGRAM PID WORDS" with its messages in out.
static int run(const char *command, const char *pid, int out)
{
	char *line = strdup(command), *save = NULL;
	char *argv[256];
	int n = 0;
	if (line == NULL)
		return -1;
	for (char *w = strtok_r(line, " ", &save); w != NULL && n < 254; w = strtok_r(NULL, " ", &save)) {
		argv[n++] = w;
		if (n == 1)
			argv[n++] = (char *)pid;
	}
	argv[n] = NULL;
	pid_t child = fork();
	if (child < 0)
		return -1;
	if (child == 0) {
		dup2(out, STDERR_FILENO);
		dup2(out, STDOUT_FILENO);
		execv(argv[0], argv);
		dprintf(out, "execute %s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	free(line);
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	errno = EPERM;
	return -1;
}

// map gives the process pid its ids: by a program, or directly if this process
// may. It runs in a child, which has stayed in the parent's user namespace.
static int map(pid_t pid, const char *file, const char *ids, int out)
{
	char number[24], path[64];
	snprintf(number, sizeof number, "%d", (int)pid);
	if (ids[0] == '/')
		return run(ids, number, out);
	snprintf(path, sizeof path, "/proc/%s/%s", number, file);
	return write_file(path, ids);
}

static void helper(pid_t pid, int go, int out, const char *uids, const char *gids)
{
	char c;
	if (read(go, &c, 1) != 1)
		_exit(0); // there is no namespace
	if (map(pid, "uid_map", uids, out) != 0) {
		dprintf(out, " (map user ids: %s)", strerror(errno));
		_exit(1);
	}
	if (map(pid, "gid_map", gids, out) != 0) {
		dprintf(out, " (map group ids: %s)", strerror(errno));
		_exit(1);
	}
	_exit(0);
}

// enter_mapped has a child map the ids.
static int enter_mapped(int flags, const char *uids, const char *gids)
{
	int go[2], out[2];
	if (pipe2(go, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
		fail("make pipe");
		return -1;
	}
	pid_t self = getpid(), child = fork();
	if (child < 0) {
		fail("fork");
		return -1;
	}
	if (child == 0) {
		close(go[1]);
		close(out[0]);
		helper(self, go[0], out[1], uids, gids);
	}
	close(go[0]);
	close(out[1]);
	int err = unshare(flags);
	if (err != 0)
		fail("make user namespace");
	else if (write(go[1], "", 1) != 1)
		err = -1;
	close(go[1]);
	char text[400];
	size_t len = 0;
	for (ssize_t n; len < sizeof text - 1; len += n)
		if ((n = read(out[0], text + len, sizeof text - 1 - len)) <= 0)
			break;
	text[len] = 0;
	close(out[0]);
	int status = 0;
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (err == 0 && status != 0) {
		snprintf(failure, sizeof failure, "%s", text);
		err = -1;
	}
	return err;
}

// enter_single maps the user's own id and nothing else, which needs no privilege.
static int enter_single(int flags, const char *uids, const char *gids)
{
	if (unshare(flags) != 0) {
		fail("make user namespace");
		return -1;
	}
	if (write_file("/proc/self/setgroups", "deny") != 0 && errno != ENOENT) {
		fail("deny setgroups");
		return -1;
	}
	if (write_file("/proc/self/uid_map", uids) != 0 || write_file("/proc/self/gid_map", gids) != 0) {
		fail("map ids");
		return -1;
	}
	return 0;
}

__attribute__((constructor)) static void rootless_enter(void)
{
	const char *how = getenv(ROOTLESS_HOW);
	if (how == NULL)
		return;
	const char *uids = getenv(ROOTLESS_UIDS), *gids = getenv(ROOTLESS_GIDS);
	if (uids == NULL || gids == NULL)
		return;
	int flags = CLONE_NEWUSER;
	if (getenv(ROOTLESS_MOUNTS) != NULL)
		flags |= CLONE_NEWNS;
	int err;
	if (strcmp(how, "single") == 0)
		err = enter_single(flags, uids, gids);
	else
		err = enter_mapped(flags, uids, gids);
	if (err != 0)
		return;
	if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0) {
		fail("become root of the user namespace");
		return;
	}
	entered = 1;
}
