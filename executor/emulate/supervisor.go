package emulate

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/fakeid"
	"layered.build/builder/snapshot/owner"
)

// Process is the container that is supervised.
type Process struct {
	// Listener is what seccomp(2) returned for Filter. The supervisor closes it.
	Listener *os.File
	// PID is a process of the container, which is in its mount namespace and root.
	PID int
	// Creds are those that its processes begin with.
	Creds fakeid.Creds
	// Upper is the directory that receives what the container changes, "" if none.
	Upper string
}

// Supervisor answers the system calls of one container.
type Supervisor struct {
	done chan error
	s    *supervisor
}

// Start answers until the last process of the container is gone. The caller waits.
func Start(p Process) (*Supervisor, error) {
	s := &supervisor{listener: int(p.Listener.Fd()), creds: newCredTable(p.Creds), links: openLinks(p.Upper), handlers: map[int32]func(*supervisor, *notification) answer{}}
	for _, c := range calls() {
		s.handlers[int32(c.nr)] = c.answer
	}
	started, done := make(chan error, 1), make(chan error, 1)
	go func() {
		err := s.onOwnThread(p.PID, started)
		s.links.close()
		done <- errors.Join(err, p.Listener.Close())
	}()
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("supervise container: %w", err), <-done)
	}
	return &Supervisor{done: done, s: s}, nil
}

// Wait returns when the container is gone.
func (s *Supervisor) Wait() error { return <-s.done }

// Owners are the owners of symlinks and fifos in the upper directory, which nothing
// else tells. Wait has returned.
func (s *Supervisor) Owners() map[owner.Inode]owner.Stat { return s.s.links.known }

// supervisor is what the answering thread works with. The thread is in the mount
// namespace and the root of the container, so that paths mean to it what they mean
// to the container's processes and cannot lead elsewhere. Its working directory is
// this machine's /proc, but for the moment in which a relative path is resolved.
type supervisor struct {
	listener int
	proc     int // descriptor of /proc
	root     int // descriptor of the container's root
	creds    *credTable
	links    links
	handlers map[int32]func(*supervisor, *notification) answer
	// chroots: some process has called chroot(2).
	chroots bool
	moved   bool // the thread is not in /proc
	jailed  bool // the thread's root is not the container's

	path   [unix.PathMax]byte // of the call in work
	record [96]byte
}

func (s *supervisor) onOwnThread(pid int, started chan<- error) error {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread cannot end. While it is kept here, another one is taken.
		defer runtime.UnlockOSThread()
		done := make(chan error)
		go func() { done <- s.onOwnThread(pid, started) }()
		return <-done
	}
	err := s.enter(pid)
	started <- err
	if err != nil {
		return nil
	}
	defer func() { unix.Close(s.proc); unix.Close(s.root) }()
	return s.serve()
}

func (s *supervisor) enter(pid int) error {
	var err error
	if s.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	dir := "/proc/" + strconv.Itoa(pid)
	ns, err := unix.Open(dir+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open mount namespace: %w", err)
	}
	defer unix.Close(ns)
	if s.root, err = unix.Open(dir+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open root: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter mount namespace: %w", err)
	}
	unix.Umask(0)
	return s.setRoot(s.root)
}

// setRoot changes the thread's root and goes back to /proc.
func (s *supervisor) setRoot(dir int) error {
	err := unix.Fchdir(dir)
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Fchdir(s.proc)
	}
	if err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	return nil
}

func (s *supervisor) serve() error {
	flags := uintptr(unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	// A hint to the scheduler, of Linux 6.6: both sides run on one processor.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags)
	var n notification
	from := newReceiver(s.listener)
	for {
		more, err := from.next(&n)
		if err != nil {
			return fmt.Errorf("receive system call: %w", err)
		}
		if !more {
			return nil
		}
		if err := s.handle(&n); err != nil {
			return err
		}
	}
}

func (s *supervisor) handle(n *notification) error {
	a := passes()
	if h := s.handlers[n.nr]; h != nil {
		a = h(s, n)
	}
	if err := s.home(); err != nil {
		return err
	}
	if a.sent {
		return nil
	}
	r := response{id: n.id, val: a.val, err: -int32(a.errno)}
	if a.pass {
		r = response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	}
	if err := send(s.listener, &r); err != nil {
		return fmt.Errorf("answer system call: %w", err)
	}
	return nil
}

// home brings the thread back to where it belongs.
func (s *supervisor) home() error {
	if s.jailed {
		s.jailed, s.moved = false, false
		return s.setRoot(s.root)
	}
	if s.moved {
		s.moved = false
		if err := unix.Fchdir(s.proc); err != nil {
			return fmt.Errorf("change to /proc: %w", err)
		}
	}
	return nil
}

func (s *supervisor) valid(n *notification) bool { return valid(s.listener, n.id) }
