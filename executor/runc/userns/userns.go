package userns

/*
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static int idle(void *unused)
{
	(void)unused;
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	for (;;)
		syscall(SYS_rt_sigsuspend, NULL, 8); // fails or sleeps; SIGKILL ends it
	return 0;
}

// start_idle makes a process that has new namespaces and does nothing, until it is
// killed. It shares the memory, so that no page table is copied, and no signal can
// reach it that this program handles. stack is to be freed after its end.
static pid_t start_idle(int flags, char **stack)
{
	enum { size = 16384 };
	sigset_t all, before;
	*stack = malloc(size);
	if (*stack == NULL)
		return -1;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pid_t pid = clone(idle, *stack + size, flags | CLONE_VM, NULL);
	int err = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = err;
	return pid;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// idCount is how many ids a container has.
const idCount = 65536

// Namespace is one run's, and owns its network, IPC and host name. The thread
// that prepares the run stays in the machine's first user namespace.
type Namespace struct {
	file *os.File
	base uint32 // uid and gid 0 of the container, outside
}

// Enter makes a user namespace, whose id 0 is base outside, and lets the calling
// private thread enter namespaces that it owns. The caller closes it.
func Enter(base uint32) (_ *Namespace, err error) {
	var stack *C.char
	pid, cerr := C.start_idle(unix.CLONE_NEWUSER|unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS, &stack)
	if pid < 0 {
		C.free(unsafe.Pointer(stack))
		return nil, fmt.Errorf("make user namespace: %w", cerr)
	}
	defer func() {
		_ = unix.Kill(int(pid), unix.SIGKILL)
		for {
			_, werr := unix.Wait4(int(pid), nil, unix.WALL, nil)
			if werr != unix.EINTR {
				break
			}
		}
		C.free(unsafe.Pointer(stack))
	}()
	proc := "/proc/" + strconv.Itoa(int(pid)) + "/"
	ids := fmt.Sprintf("0 %d %d\n", base, idCount)
	for _, name := range []string{"uid_map", "gid_map"} {
		if err := os.WriteFile(proc+name, []byte(ids), 0); err != nil {
			return nil, fmt.Errorf("map ids: %w", err)
		}
	}
	for _, name := range []string{"net", "ipc", "uts"} {
		fd, err := unix.Open(proc+"ns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open namespace: %w", err)
		}
		err = unix.Setns(fd, 0)
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("enter %s namespace: %w", name, err)
		}
	}
	file, err := os.Open(proc + "ns/user")
	if err != nil {
		return nil, fmt.Errorf("open namespace: %w", err)
	}
	return &Namespace{file: file, base: base}, nil
}

// Close closes the handle on it.
func (u *Namespace) Close() error { return u.file.Close() }

// Outer is an id of the container as who is outside must give it: the same without a
// user namespace, which may be nil.
func (u *Namespace) Outer(id uint32) int {
	if u != nil {
		id += u.base
	}
	return int(id)
}

// Configure has libcontainer enter the user namespace.
func (u *Namespace) Configure(cfg *configs.Config) {
	cfg.Namespaces.Add(configs.NEWUSER, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), u.file.Fd()))
	ids := []configs.IDMap{{ContainerID: 0, HostID: int64(u.base), Size: idCount}}
	cfg.UIDMappings, cfg.GIDMappings = ids, ids
}

const noSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP

// ActAsRoot makes the calling thread create files as the container's root, with
// all capabilities that it has.
func (u *Namespace) ActAsRoot() error {
	bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(bits|noSetuidFixup), 0, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	_, err = unix.SetfsuidRetUid(int(u.base))
	_, gerr := unix.SetfsgidRetGid(int(u.base))
	// Processes that are started must not inherit it.
	return errors.Join(err, gerr, unix.Prctl(unix.PR_SET_SECUREBITS, uintptr(bits), 0, 0, 0))
}

// ErrNoIDMap says that a file system's ids cannot be mapped.
var ErrNoIDMap = errors.New("ids of this file system cannot be mapped")

// CloneMapped returns a detached clone of a mount, from path on, that shows what
// the disk says as ids of the container.
func (u *Namespace) CloneMapped(path string, recursive bool) (int, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	attrFlags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
		attrFlags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
	if err != nil {
		return -1, &os.PathError{Op: "clone mount", Path: path, Err: err}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(u.file.Fd())}
	if err := unix.MountSetattr(fd, "", attrFlags, &attr); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%w: %w", ErrNoIDMap, &os.PathError{Op: "map ids of mount", Path: path, Err: err})
	}
	return fd, nil
}
