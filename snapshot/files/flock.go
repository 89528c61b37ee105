package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says who else may hold a lock at the same time.
type Mode int

const (
	// Exclusive is held by one at a time.
	Exclusive Mode = unix.LOCK_EX
	// Shared is held by any number, while nobody holds it exclusively.
	Shared Mode = unix.LOCK_SH
)

// ErrLocked says that a lock could not be taken because another holds it.
var ErrLocked = errors.New("locked by another")

// The wait between two looks at a lock that another holds.
const (
	pollMin = time.Millisecond
	pollMax = 25 * time.Millisecond
)

// Flock locks an open file or folder, or changes how it is locked, and waits until
// that is possible or ctx ends; the error is the cause of ctx then. With a ctx that
// never ends it sleeps in the kernel. Otherwise it looks again and again, ever more
// slowly: a flock that waits could not be cancelled without leaving a thread behind.
func Flock(ctx context.Context, f *os.File, how Mode) error {
	if ctx.Done() == nil {
		return flock(f, int(how))
	}
	for delay := pollMin; ; delay = min(2*delay, pollMax) {
		if err := TryFlock(f, how); !errors.Is(err, ErrLocked) {
			return err
		}
		t := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// TryFlock is Flock that does not wait: it returns ErrLocked.
func TryFlock(f *os.File, how Mode) error { return flock(f, int(how)|unix.LOCK_NB) }

// Unflock gives the lock of an open file back, which stays open.
func Unflock(f *os.File) error { return flock(f, unix.LOCK_UN) }

func flock(f *os.File, how int) error {
	for {
		switch err := unix.Flock(int(f.Fd()), how); err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}
