package collect

import (
	"context"
	"time"

	"layered.build/builder/snapshot"
)

const (
	// recheck is how long an estimate of the store's size is believed.
	recheck = time.Hour
	// pause lies between collections that a full disk asks for, or a budget that the
	// last one could not keep, or that was another then.
	pause = 5 * time.Minute
)

// Auto prunes a store that may have outgrown its budget. What is in use stays, by
// s.Layers too: at the end of what writes to the store, who knows that nothing of it is
// needed any more calls Release of that before. It costs next to nothing (a system call)
// if nothing was written. The result is nil if there was no reason to measure.
func (s *Store) Auto(ctx context.Context, b Budget) (*Pruned, error) {
	free, err := FreeSpace(s.Layers.Root())
	if err != nil {
		return nil, err
	}
	wrote, low := s.Layers.Written() > 0, b.MinFree > 0 && free < b.MinFree
	if !wrote && !low {
		return nil, nil
	}
	a := s.Layers.Account()
	isNew := a.Checked.IsZero() && s.Layers.IsNew()
	if isNew {
		a.Checked = time.Now() // all that is there was written by this process
	}
	if !wrote && !a.Checked.IsZero() && a.Used <= b.Reserved {
		return nil, nil // nothing could go
	}
	written := s.Layers.Unnoted()
	a.Let += written
	if isDue(a, b, low, time.Now()) {
		return s.Prune(ctx, PruneOptions{All: true, Budget: b, Unused: b.unused(time.Now())})
	}
	if written == 0 {
		return nil, nil
	}
	err = s.Layers.WithAccount(ctx, func(a *snapshot.Account, _ string) error {
		if isNew && a.Checked.IsZero() {
			a.Checked = time.Now().UTC()
		}
		a.Let += written
		return nil
	})
	if err == nil {
		s.Layers.Noted(written)
	}
	return nil, err
}

// isDue reports whether the store is to be measured.
func isDue(a snapshot.Account, b Budget, low bool, now time.Time) bool {
	age := now.Sub(a.Checked)
	if age > recheck || age < 0 {
		return true
	}
	used := a.Total()
	if used <= b.Reserved {
		return false
	}
	if b.MaxUsed > 0 && used > b.MaxUsed && (a.Used <= b.MaxUsed || a.Let > b.MaxUsed/50 || age > pause) {
		return true
	}
	return low && age > pause
}

// measurement is what is noted of the store's size.
type measurement struct {
	layers  *snapshot.Store
	before  snapshot.Account
	written int64 // by this process, and on disk
	begun   bool
}

// beginMeasurement is called before the store is measured.
func (s *Store) beginMeasurement(ctx context.Context) *measurement {
	m := &measurement{layers: s.Layers, written: s.Layers.Unnoted()}
	err := s.Layers.WithAccount(ctx, func(a *snapshot.Account, _ string) error {
		m.before = a.Clone()
		return nil
	})
	m.begun = err == nil
	return m
}

// end writes down how large the store is. What cannot be written (the disk may be full) is
// measured again before long.
func (m *measurement) end(ctx context.Context, bytes int64) {
	if !m.begun {
		return
	}
	err := m.layers.WithAccount(ctx, func(a *snapshot.Account, _ string) error {
		a.Measured(bytes, m.before)
		return nil
	})
	if err == nil {
		m.layers.Noted(m.written)
	}
}
