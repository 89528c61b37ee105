package lease

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
)

// collectLock is held shared while somebody writes down what it is about to look for,
// and exclusively while a collection decides and removes.
const collectLock = "collect.lock"

// Pin writes down that the lease uses a thing, which no collection removes until Release
// or Close. Whoever wants to know whether the thing is there pins it before it looks; so
// what was seen stays. Pin waits while a collection is going on. When nothing can be
// written (the disk is full), collections are kept away altogether.
//
// Names have no line breaks.
func (l *Lease) Pin(name string) {
	if _, ok := l.known.Load(name); ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all || l.closed {
		return
	}
	if l.gate == nil {
		f, err := os.OpenFile(l.path(collectLock), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return // without a lock file there is no collection either
		}
		l.gate = f
	}
	if files.Flock(context.Background(), l.gate, files.Shared) != nil {
		return
	}
	if _, err := l.lock.File().Write([]byte(name + "\n")); err != nil {
		l.all = true
		return
	}
	l.known.Store(name, nil)
	files.Unflock(l.gate)
}

// Release says that the lease no longer relies on what it has pinned so far. Nobody may
// be using what it pinned before.
func (l *Lease) Release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.known.Clear()
	err := l.lock.File().Truncate(0)
	if err == nil {
		_, err = l.lock.File().Seek(0, 0)
	}
	if err == nil && l.all {
		l.all, err = false, files.Unflock(l.gate)
	}
	if err != nil {
		return fmt.Errorf("release what was used: %w", err)
	}
	return nil
}

// Made counts bytes that were added to the folder.
func (l *Lease) Made(bytes int64) { l.written.Add(bytes) }

// Written returns about how many bytes were added to the folder.
func (l *Lease) Written() int64 { return l.written.Load() }
