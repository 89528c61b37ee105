package chroot

import (
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/stdio"
)

// startWith starts a command with the streams of a step.
func startWith(spec *sandbox.Spec, cmd *exec.Cmd) (*stdio.Streams, error) {
	std, err := stdio.New(spec)
	if err != nil {
		return nil, err
	}
	if spec.TTY {
		pty, tty, err := openTerminal()
		if err != nil {
			return nil, err
		}
		defer tty.Close()
		std.Terminal(pty)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	} else {
		attach(cmd, std.Ends())
	}
	err = cmd.Start()
	std.Started()
	if err != nil {
		std.Abort()
		return nil, fmt.Errorf("start step: %w", err)
	}
	return std, nil
}

// attach gives a command its ends. Typed nils must not become non-nil interfaces.
func attach(cmd *exec.Cmd, ends [3]*os.File) {
	if ends[0] != nil {
		cmd.Stdin = ends[0]
	}
	if ends[1] != nil {
		cmd.Stdout = ends[1]
	}
	if ends[2] != nil {
		cmd.Stderr = ends[2]
	}
}

// openTerminal makes a terminal and returns both of its sides.
func openTerminal() (pty, tty *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open terminal: %w", err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open terminal: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "pty"), tty, nil
}
