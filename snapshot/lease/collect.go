package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"layered.build/builder/snapshot/files"
)

// Collection removes things from the folder while nobody can begin to use more of it. It
// is valid during the call of Collect.
type Collection struct {
	l    *Lease
	pins map[string]bool
	gone []string // what was moved away
}

// Collect calls fn while all that want to pin what they have not pinned yet wait, and then
// deletes what fn moved. Fn must be short, and must not pin.
func (l *Lease) Collect(ctx context.Context, fn func(*Collection) error) error {
	l.mu.Lock()
	all := l.all
	l.mu.Unlock()
	if all { // it would wait for itself
		return errors.New("collect: the disk is too full to write down what this process uses")
	}
	lock, err := l.Exclude(ctx)
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	defer lock.Release()
	c := &Collection{l: l}
	if c.pins, err = l.Pins(); err == nil {
		err = fn(c)
	}
	lock.Release()
	errs := []error{err}
	for _, p := range c.gone {
		errs = append(errs, files.RemoveAll(p))
	}
	return errors.Join(errs...)
}

// Exclude waits until nobody can begin to use more of the folder, which lasts until the
// lock is released.
func (l *Lease) Exclude(ctx context.Context) (*files.Lock, error) {
	return files.LockFile(ctx, l.path(collectLock), files.Exclusive)
}

// Hold waits until nothing is being removed, and keeps everything in the folder until the lock
// is released.
func (l *Lease) Hold(ctx context.Context) (*files.Lock, error) {
	return files.LockFile(ctx, l.path(collectLock), files.Shared)
}

// Pins returns what is in use now: what all leases that have not ended have pinned.
func (l *Lease) Pins() (map[string]bool, error) { return l.readPins(false) }

// OtherPins is Pins without this lease.
func (l *Lease) OtherPins() (map[string]bool, error) { return l.readPins(true) }

func (l *Lease) readPins(skipOwn bool) (map[string]bool, error) {
	names, err := os.ReadDir(l.path(LocksDir))
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	pins := map[string]bool{}
	for _, n := range names {
		isOwn := n.Name() == l.name
		if !strings.HasPrefix(n.Name(), "p") || isOwn && skipOwn {
			continue
		}
		if !isOwn {
			if dead, err := l.isDead(n.Name()); err != nil {
				return nil, fmt.Errorf("read pins: %w", err)
			} else if dead {
				continue
			}
		}
		data, err := os.ReadFile(l.path(LocksDir, n.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read pins: %w", err)
		}
		for line := range bytes.Lines(data) {
			pins[strings.TrimSpace(string(line))] = true
		}
	}
	return pins, nil
}

// Pinned reports whether a thing is in use.
func (c *Collection) Pinned(name string) bool { return c.pins[name] }

// Pins returns all that is in use, as Lease.Pins does.
func (c *Collection) Pins() map[string]bool { return c.pins }

// Move moves a file or folder away, to be deleted after the collection. It is no error if
// there is none.
func (c *Collection) Move(path string) error {
	tmp := c.l.TempName(TmpDir)
	err := os.Rename(path, tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	c.gone = append(c.gone, tmp)
	return nil
}
