package sandbox

import (
	"os"
	"os/signal"
	"syscall"
)

// HeedSignals is called in a process that becomes the user's by execve(2): signals that
// whoever started the builder has ignored, as nohup(1) and shells do for what runs in the
// background, are not ignored there.
func HeedSignals() {
	heard := make(chan os.Signal, 1)
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(heard, s) // execve sets back what has a handler
		}
	}
}
