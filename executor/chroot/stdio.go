package chroot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
)

// stdio connects a step's standard streams with a Spec's readers and writers. The
// step gets pipes or a terminal, never the caller's own files.
type stdio struct {
	spec  *sandbox.Spec
	child []*os.File // the step's ends
	in    *os.File
	outs  []output
	pty   *os.File
	ended chan struct{}
	wg    sync.WaitGroup
	errs  []error
}

type output struct {
	from *os.File
	to   io.Writer
}

func newStdio(spec *sandbox.Spec, cmd *exec.Cmd) (*stdio, error) {
	s := &stdio{spec: spec, ended: make(chan struct{})}
	if spec.TTY {
		return s, s.terminal(cmd)
	}
	if spec.Stdin != nil {
		r, w, err := os.Pipe()
		if err != nil {
			return s, err
		}
		s.child, s.in, cmd.Stdin = append(s.child, r), w, r
	}
	for i, to := range []io.Writer{spec.Stdout, spec.Stderr} {
		if to == nil {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return s, err
		}
		s.child, s.outs = append(s.child, w), append(s.outs, output{r, to})
		if i == 0 {
			cmd.Stdout = w
		} else {
			cmd.Stderr = w
		}
	}
	return s, nil
}

func (s *stdio) terminal(cmd *exec.Cmd) error {
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	s.pty = pty
	n, err := unix.IoctlGetUint32(int(pty.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open terminal: %w", err)
	}
	s.child = append(s.child, tty)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	to := s.spec.Stdout
	if to == nil {
		to = io.Discard
	}
	s.in, s.outs = pty, append(s.outs, output{pty, to})
	return nil
}

// started closes the step's ends in this process.
func (s *stdio) started() {
	closeAll(s.child...)
	s.child = nil
}

// abort closes everything when the step will not run.
func (s *stdio) abort() error {
	s.started()
	for _, o := range s.outs {
		o.from.Close()
	}
	if s.in != nil {
		s.in.Close()
	}
	if s.pty != nil {
		s.pty.Close()
	}
	return nil
}

// forward starts copying; finish waits for its end.
func (s *stdio) forward() {
	s.errs = make([]error, len(s.outs))
	for i, o := range s.outs {
		s.wg.Go(func() { s.errs[i] = drain(o.to, o.from) })
	}
	if s.pty != nil && s.spec.Resize != nil {
		s.wg.Go(s.resizes)
	}
	if s.in != nil && s.spec.Stdin != nil {
		// A reader that never ends is not waited for, unless it can be interrupted.
		go s.feed()
	}
}

func (s *stdio) feed() {
	if s.pty == nil {
		defer s.in.Close()
	}
	f, isFile := s.spec.Stdin.(*os.File)
	buf := make([]byte, 32<<10)
	for {
		if isFile && !s.readable(f) {
			return
		}
		n, err := s.spec.Stdin.Read(buf)
		if n > 0 {
			if _, werr := s.in.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readable waits until a file can be read; false if the step ended first.
func (s *stdio) readable(f *os.File) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		select {
		case <-s.ended:
			return false
		default:
		}
		if n > 0 {
			return true
		}
	}
}

// resizes hands on the sizes of the caller's terminal.
func (s *stdio) resizes() {
	for {
		select {
		case <-s.ended:
			return
		case size, ok := <-s.spec.Resize:
			if !ok {
				return
			}
			_ = unix.IoctlSetWinsize(int(s.pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: size[0], Row: size[1]})
		}
	}
}

// finish ends the copying after the end of the step, which nothing has outlived.
func (s *stdio) finish() error {
	close(s.ended)
	if s.pty != nil {
		_ = s.pty.SetReadDeadline(time.Now().Add(time.Second))
	}
	s.wg.Wait()
	for _, o := range s.outs {
		o.from.Close()
	}
	if s.in != nil {
		s.in.Close()
	}
	return errors.Join(s.errs...)
}

// drain copies until the end. It goes on reading when writing fails, so that the
// step is not blocked.
func drain(to io.Writer, from *os.File) error {
	var werr error
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && werr == nil {
			if _, werr = to.Write(buf[:n]); werr != nil {
				werr = fmt.Errorf("write output: %w", werr)
			}
		}
		if err != nil {
			return werr
		}
	}
}
