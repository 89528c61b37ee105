package runc

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc/watch"
)

// relay hands signals on to a container's first process.
type relay struct {
	pid       int
	preparing string // the executable of the process while it is not the user's yet
	stop      chan struct{}
	wg        sync.WaitGroup

	ended syscall.Signal // the one that ended it; valid after end
}

// relaySignals begins to hand on the signals of the specification. The caller ends it.
func (r *run) relaySignals(pid int) *relay {
	s := &relay{pid: pid, preparing: r.preparing, stop: make(chan struct{})}
	if r.spec.Signals != nil {
		s.wg.Go(func() { s.serve(r.spec.Signals) })
	}
	return s
}

// end is called when the process has ended.
func (s *relay) end() {
	close(s.stop)
	s.wg.Wait()
}

func (s *relay) serve(signals <-chan syscall.Signal) {
	// The number may be another's as soon as the process has been waited for.
	fd, err := unix.PidfdOpen(s.pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for {
		select {
		case <-s.stop:
			return
		case sig := <-signals:
			if !s.prepared() {
				return
			}
			s.send(fd, sig)
		}
	}
}

// prepared waits until the process is the user's, which takes no longer than an execve.
func (s *relay) prepared() bool {
	for watch.Executable(s.pid) == s.preparing {
		select {
		case <-s.stop:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// send signals the process. The kernel spares the first process of a namespace the
// signals about which it does nothing; what would end any other process ends this one.
func (s *relay) send(fd int, sig syscall.Signal) {
	switch sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
		if s.ended == 0 && byDefault(s.pid, sig) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil {
			s.ended = sig
		}
	}
	_ = unix.PidfdSendSignal(fd, sig, nil, 0) // it may have ended
}

// byDefault reports whether a process neither catches nor ignores nor holds back a
// signal.
func byDefault(pid int, sig syscall.Signal) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return false
	}
	seen := false
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "SigBlk", "SigIgn", "SigCgt":
			set, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if err != nil || set&(1<<(sig-1)) != 0 {
				return false
			}
			seen = true
		}
	}
	return seen
}
