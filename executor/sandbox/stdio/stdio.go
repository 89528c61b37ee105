// Package stdio connects the standard streams of a process with the readers and
// writers of its specification, whatever runs the process.
package stdio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
)

// Streams are those of one process. It gets pipes (or a terminal), never the
// caller's own files: it may change their owner and mode.
//
// Calls come in this order: New, Started when the process has been started, Terminal
// if it has one, Forward, and Finish when it has ended; or Abort instead of what is
// left of them.
type Streams struct {
	spec  *sandbox.Spec
	child [3]*os.File // the process's ends
	in    *os.File    // write end of stdin
	outs  []output
	tty   *os.File // the process's terminal, this side

	wg    sync.WaitGroup // copying goroutines
	ended chan struct{}  // closed when the process has ended
	stop  *os.File       // closed to end the reading of Stdin
	errs  []error        // one a copying goroutine
}

type output struct {
	from *os.File
	to   io.Writer
}

// New makes the pipes of a process; none if it is to have a terminal.
func New(spec *sandbox.Spec) (*Streams, error) {
	s := &Streams{spec: spec}
	if spec.TTY {
		return s, nil
	}
	if spec.Stdin != nil {
		r, w, err := s.pipe()
		if err != nil {
			return nil, err
		}
		s.child[0], s.in = r, w
	}
	for i, to := range []io.Writer{spec.Stdout, spec.Stderr} {
		if to == nil {
			continue
		}
		r, w, err := s.pipe()
		if err != nil {
			return nil, err
		}
		s.child[1+i] = w
		s.outs = append(s.outs, output{r, to})
	}
	return s, nil
}

func (s *Streams) pipe() (r, w *os.File, err error) {
	r, w, err = os.Pipe()
	if err != nil {
		s.Abort()
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	return r, w, nil
}

// Ends are the process's ends: standard input, output and error. Those that it does
// not have are nil.
func (s *Streams) Ends() [3]*os.File { return s.child }

// Terminal takes over the master side of the process's terminal, which must not
// block.
func (s *Streams) Terminal(pty *os.File) {
	to := s.spec.Stdout
	if to == nil {
		to = io.Discard
	}
	s.in, s.tty, s.outs = pty, pty, append(s.outs, output{pty, to})
}

// Started closes the process's ends in this process.
func (s *Streams) Started() {
	for i, f := range s.child {
		if f != nil {
			f.Close()
			s.child[i] = nil
		}
	}
}

// Abort closes everything when the process will not run.
func (s *Streams) Abort() {
	s.Started()
	s.close()
}

func (s *Streams) close() {
	for _, o := range s.outs {
		o.from.Close()
	}
	if s.in != nil {
		s.in.Close()
	}
}

// Forward starts copying; Finish waits for its end.
func (s *Streams) Forward() error {
	s.errs = make([]error, len(s.outs))
	for i, o := range s.outs {
		s.wg.Go(func() { s.errs[i] = drain(o.to, o.from) })
	}
	s.ended = make(chan struct{})
	if s.tty != nil && s.spec.Resize != nil {
		s.wg.Go(s.resizes)
	}
	if s.in == nil || s.spec.Stdin == nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make pipe: %w", err)
	}
	s.stop = w
	feed := func() { feed(s.in, s.spec.Stdin, r, s.tty == nil); r.Close() }
	if _, ok := s.spec.Stdin.(*os.File); ok {
		s.wg.Go(feed)
	} else {
		// A reader of another kind cannot be interrupted: it is not waited for.
		go feed()
	}
	return nil
}

// resizes hands on the sizes of the caller's terminal.
func (s *Streams) resizes() {
	for {
		select {
		case <-s.ended:
			return
		case size, ok := <-s.spec.Resize:
			if !ok {
				return
			}
			_ = resize(s.tty, size[0], size[1]) // a terminal of the wrong size is still one
		}
	}
}

// Finish ends the copying after the process's end: everything that it wrote is
// in the pipes by then, also if something else still holds their other ends.
func (s *Streams) Finish() error {
	close(s.ended)
	if s.stop != nil {
		s.stop.Close()
	}
	for _, o := range s.outs {
		_ = o.from.SetReadDeadline(time.Unix(1, 0))
	}
	s.wg.Wait()
	s.close()
	return errors.Join(s.errs...)
}

// drain copies until the end, or, once the read deadline is over, until nothing
// is left to read. It goes on reading when writing fails, so that the process is
// not blocked.
func drain(to io.Writer, from *os.File) error {
	var werr error
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			n, err = readNow(from, buf)
		}
		if n > 0 && werr == nil {
			if _, werr = to.Write(buf[:n]); werr != nil {
				werr = fmt.Errorf("write output: %w", werr)
			}
		}
		if err != nil || n == 0 {
			return werr
		}
	}
}

// readNow reads without waiting; 0 bytes if there is nothing.
func readNow(f *os.File, buf []byte) (int, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	cerr := rc.Control(func(fd uintptr) {
		n, err = unix.Read(int(fd), buf)
	})
	return max(n, 0), errors.Join(cerr, err)
}

// feed copies Stdin to the process until its end, or until stop is closed.
func feed(to *os.File, from io.Reader, stop *os.File, closeTo bool) {
	if closeTo {
		defer to.Close()
	}
	f, isFile := from.(*os.File)
	buf := make([]byte, 32<<10)
	for {
		if isFile && !readable(f, stop) {
			return
		}
		n, err := from.Read(buf)
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// readable waits until f can be read; false if stop was closed first.
func readable(f, stop *os.File) bool {
	fds := []unix.PollFd{
		{Fd: int32(f.Fd()), Events: unix.POLLIN},
		{Fd: int32(stop.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && fds[1].Revents == 0
	}
}

// resize sets a terminal's size.
func resize(pty *os.File, cols, rows uint16) error {
	rc, err := pty.SyscallConn()
	if err != nil {
		return err
	}
	var ierr error
	err = rc.Control(func(fd uintptr) {
		ierr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
	})
	if err != nil {
		return err
	}
	return ierr
}
