package collect

import (
	"testing"
	"time"

	"layered.build/builder/snapshot"
)

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		name        string
		b           Budget
		total, free int64
		keep        int64
	}{
		{"no bound removes all", Budget{}, 100, 50, 0},
		{"reserved alone", Budget{Reserved: 30}, 100, 50, 30},
		{"largest", Budget{MaxUsed: 60}, 100, 50, 60},
		{"small enough", Budget{MaxUsed: 160}, 100, 50, 100},
		{"enough is free", Budget{MinFree: 20}, 100, 50, 100},
		{"too little is free", Budget{MinFree: 70}, 100, 50, 80},
		{"reserved wins", Budget{Reserved: 90, MaxUsed: 60, MinFree: 70}, 100, 50, 90},
		{"never below nothing", Budget{MinFree: 700}, 100, 50, 0},
	} {
		if got := c.b.keep(c.total, c.free); got != c.keep {
			t.Errorf("%s: keeps %d, not %d", c.name, got, c.keep)
		}
	}
}

func TestIsDue(t *testing.T) {
	now := time.Now()
	b := Budget{Reserved: 10, MaxUsed: 100, MinFree: 5}
	for _, c := range []struct {
		name string
		a    snapshot.Account
		low  bool
		due  bool
	}{
		{"never measured", snapshot.Account{}, false, true},
		{"long ago", snapshot.Account{Checked: now.Add(-2 * recheck), Used: 1}, false, true},
		{"measured in the future", snapshot.Account{Checked: now.Add(recheck), Used: 1}, false, true},
		{"small", snapshot.Account{Checked: now, Used: 50, Let: 20}, false, false},
		{"outgrown", snapshot.Account{Checked: now, Used: 50, Let: 60}, false, true},
		{"could not be made smaller, little new", snapshot.Account{Checked: now, Used: 150, Let: 1}, false, false},
		{"could not be made smaller, more new", snapshot.Account{Checked: now, Used: 150, Let: 10}, false, true},
		{"could not be made smaller a while ago, or was not asked to", snapshot.Account{Checked: now.Add(-2 * pause), Used: 150, Let: 1}, false, true},
		{"full disk, just collected", snapshot.Account{Checked: now, Used: 50}, true, false},
		{"full disk", snapshot.Account{Checked: now.Add(-2 * pause), Used: 50}, true, true},
		{"full disk, not by this store", snapshot.Account{Checked: now.Add(-2 * pause), Used: 5}, true, false},
	} {
		if got := isDue(c.a, b, c.low, now); got != c.due {
			t.Errorf("%s: due %t, want %t", c.name, got, c.due)
		}
	}
}
