package runc

import (
	"github.com/opencontainers/runc/libcontainer"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/stdio"
)

// streams are those of a container's process, whose terminal the container makes.
type streams struct {
	*stdio.Streams
	tty *console // nil without a terminal
}

func newStreams(spec *sandbox.Spec) (*streams, error) {
	s := &streams{}
	var err error
	if spec.TTY {
		if s.tty, err = newConsole(); err != nil {
			return nil, err
		}
	}
	if s.Streams, err = stdio.New(spec); err != nil {
		return nil, err
	}
	return s, nil
}

// attach hands the process's ends to libcontainer. Typed nils must not become
// non-nil interfaces.
func (s *streams) attach(p *libcontainer.Process) {
	if s.tty != nil {
		p.ConsoleSocket = s.tty.child
		return
	}
	ends := s.Ends()
	if ends[0] != nil {
		p.Stdin = ends[0]
	}
	if ends[1] != nil {
		p.Stdout = ends[1]
	}
	if ends[2] != nil {
		p.Stderr = ends[2]
	}
}

// started closes the process's ends in this process.
func (s *streams) started() {
	s.Started()
	if s.tty != nil {
		s.tty.child.Close()
	}
}

// abort closes everything when the process will not run.
func (s *streams) abort() {
	s.started()
	s.Abort()
	if s.tty != nil {
		s.tty.parent.Close()
	}
}

// forward starts copying.
func (s *streams) forward() error {
	if s.tty != nil {
		pty, err := s.tty.receive()
		if err != nil {
			return err
		}
		s.Terminal(pty)
		s.tty.parent.Close()
	}
	return s.Forward()
}
