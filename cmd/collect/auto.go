package collect

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"
)

const (
	stateFile = "collected.json"
	// recheck is how long an estimate of the store's size is believed.
	recheck = time.Hour
	// pause lies between collections that a full disk asks for.
	pause = 5 * time.Minute
)

// state is what the last measurement found, and what was written since.
type state struct {
	Checked time.Time
	Used    int64 // bytes, measured
	Written int64 // bytes since, as far as it is known
}

// Auto prunes a store that may have outgrown its budget. What is in use stays, by
// s.Layers too: at the end of what writes to the store, who knows that nothing of it is
// needed any more calls Release of that before. It costs next to nothing (two system
// calls) if nothing was written. The result is nil if there was no reason to measure.
func (s *Store) Auto(ctx context.Context, b Budget) (*Pruned, error) {
	free, err := FreeSpace(s.Layers.Root())
	if err != nil {
		return nil, err
	}
	written, low := s.Layers.Written(), b.MinFree > 0 && free < b.MinFree
	if written == 0 && !low {
		return nil, nil
	}
	st := s.readState()
	if st.Checked.IsZero() && s.Layers.IsNew() {
		st.Checked = time.Now() // all that is there was written by this process
	}
	if written == 0 && !st.Checked.IsZero() && st.Used <= b.Reserved {
		return nil, nil // nothing could go
	}
	st.Written += written
	if !st.isDue(b, low, time.Now()) {
		if written == 0 {
			return nil, nil
		}
		return nil, s.writeState(st)
	}
	pruned, err := s.Prune(ctx, PruneOptions{All: true, Budget: b})
	if err != nil {
		return pruned, err
	}
	return pruned, s.writeState(state{Checked: time.Now(), Used: pruned.Left})
}

// Estimate is how large the store is, as far as that is known without measuring, and
// whether it is known at all.
func (s *Store) Estimate() (bytes int64, known bool) {
	st := s.readState()
	return st.Used + st.Written, !st.Checked.IsZero()
}

// isDue reports whether the store is to be measured.
func (st state) isDue(b Budget, low bool, now time.Time) bool {
	age := now.Sub(st.Checked)
	if age > recheck || age < 0 {
		return true
	}
	used := st.Used + st.Written
	if used <= b.Reserved {
		return false
	}
	if b.MaxUsed > 0 && used > b.MaxUsed && (st.Used <= b.MaxUsed || st.Written > b.MaxUsed/50) {
		return true
	}
	return low && age > pause
}

// readState returns the zero state where there is none: then it is time to measure.
func (s *Store) readState() state {
	var st state
	if data, err := os.ReadFile(s.statePath()); err != nil || json.Unmarshal(data, &st) != nil {
		return state{}
	}
	return st
}

// writeState replaces the state. Of two processes that do so at once one's estimate
// is lost; the next measurement corrects it.
func (s *Store) writeState(st state) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return s.Layers.WriteFile(stateFile, data)
}

func (s *Store) statePath() string { return filepath.Join(s.Layers.Root(), stateFile) }
