package cli

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser/mistake"
)

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// withTerminal puts the terminal that is standard input into raw mode while fn runs, and
// hands its size on. Without one, fn gets no sizes.
func withTerminal(stdin io.Reader, fn func(sizes <-chan [2]uint16) (sandbox.Exit, error)) (sandbox.Exit, error) {
	if !isTerminal(stdin) {
		return sandbox.Exit{}, mistake.New("-t with -i needs a terminal on stdin").WithHint("leave -t out")
	}
	in := stdin.(*os.File)
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return sandbox.Exit{}, err
	}
	sizes := make(chan [2]uint16, 1)
	stop := followSize(in, sizes)
	exit, err := fn(sizes)
	stop()
	return exit, errors.Join(err, term.Restore(int(in.Fd()), state))
}

// followSize sends the terminal's size now and at every change until stop.
func followSize(in *os.File, sizes chan<- [2]uint16) (stop func()) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if w, h, err := term.GetSize(int(in.Fd())); err == nil {
				select {
				case sizes <- [2]uint16{uint16(w), uint16(h)}:
				case <-done:
					return
				}
			}
			select {
			case <-changed:
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(changed)
		close(done)
		wg.Wait()
	}
}
