package shared_test

import (
	"testing"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
)

// TestAge keeps the time of the latest run of a step, whoever exports last: who wants no old
// results runs it only once.
func TestAge(t *testing.T) {
	k := newPair(t)
	place := &sharedtest.Memory{}
	makes := func(ago time.Duration, target shared.Target) {
		t.Helper()
		m := newMachine()
		m.later = -ago
		m.makes(t, target, "step")
	}
	younger := func(than time.Duration) bool {
		t.Helper()
		rec, err := newMachine().session([]shared.Source{from(place, nil)}, nil).GetSince(t.Context(), key("step"), time.Now().Add(-than))
		return err == nil && rec != nil
	}
	makes(72*time.Hour, to(place, "", nil))
	if younger(48 * time.Hour) {
		t.Error("it ran three days ago")
	}
	makes(24*time.Hour, to(place, "", nil))
	if !younger(48 * time.Hour) {
		t.Error("it ran again a day ago, with the same layers, and that was not exported")
	}
	makes(72*time.Hour, to(place, "", k.signer)) // signs, and does not know who says so
	if younger(48 * time.Hour) {
		t.Error("what nobody has signed was taken over, and signed")
	}
	makes(24*time.Hour, to(place, "", k.signer))
	makes(72*time.Hour, to(place, "", k.signer)) // has an older one
	if !younger(48 * time.Hour) {
		t.Error("who has an older record has exported that")
	}
	// Who does not sign cannot renew what is signed.
	makes(time.Hour, to(place, "", nil))
	if younger(12 * time.Hour) {
		t.Error("what is signed was replaced")
	}
	makes(time.Hour, to(place, "", k.signer))
	if !younger(12 * time.Hour) {
		t.Error("it ran again an hour ago")
	}
}
