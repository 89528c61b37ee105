package lease

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"time"

	"layered.build/builder/snapshot/files"
)

const (
	accountFile = "room.json"
	accountLock = "room.lock"
	// formerAccount is what earlier versions wrote beside it.
	formerAccount = "collected.json"
)

// Account is what those that use a store know together about its size, in bytes.
type Account struct {
	// Checked is when the store was measured last, zero if that never was.
	Checked time.Time
	// Used was found then.
	Used int64
	// Let is what came since: what leases were let in, and what they have written without
	// asking for room.
	Let int64
	// Open is the part of Let, or of what was let in before, that is not on disk yet,
	// by lease.
	Open map[string]int64 `json:",omitempty"`
}

// Total is how large the store is, or will be when everything that was let in is there.
func (a *Account) Total() int64 { return a.Used + a.Let }

// Enter counts what a lease lets in.
func (a *Account) Enter(owner string, bytes int64) {
	a.Let += bytes
	a.open(owner, bytes)
}

// Settle is Room's, for a lease.
func (a *Account) Settle(owner string, let, written int64) {
	a.Let += written - let
	a.open(owner, -let)
}

func (a *Account) open(owner string, bytes int64) {
	if a.Open == nil {
		a.Open = map[string]int64{}
	}
	if a.Open[owner] += bytes; a.Open[owner] <= 0 {
		delete(a.Open, owner)
	}
}

// Pending is what was let in and is not on disk yet.
func (a *Account) Pending() (bytes int64) {
	for _, n := range a.Open {
		bytes += n
	}
	return bytes
}

// Measured begins anew from what is on disk now. Before is the account as it was when the
// measurement began: what was pending then, and what was let in since, may not have been
// found.
func (a *Account) Measured(bytes int64, before Account) {
	let := max(a.Pending(), before.Pending()+a.Let-before.Let)
	a.Checked, a.Used, a.Let = time.Now().UTC(), bytes, let
}

// Clone returns a copy that shares nothing.
func (a *Account) Clone() Account {
	c := *a
	c.Open = maps.Clone(a.Open)
	return c
}

// Account returns the store's account as it was written last, which may be outdated at
// once. It is zero where none can be read.
func (l *Lease) Account() Account {
	data, err := os.ReadFile(l.path(accountFile))
	if err != nil {
		return Account{}
	}
	return decodeAccount(data)
}

// decodeAccount reads an account. One that does not say when the store was measured is of
// an earlier version, or damaged: its numbers count for nothing.
func decodeAccount(data []byte) Account {
	var a Account
	if json.Unmarshal(data, &a) != nil {
		return Account{}
	}
	if a.Checked.IsZero() {
		return Account{Open: a.Open}
	}
	return a
}

// WithAccount calls fn with the store's account, which fn may change, while nobody else
// does. Owner is the name of this lease in it. What leases had open that have ended does
// not count as such. If nothing is changed nothing is written.
func (l *Lease) WithAccount(ctx context.Context, fn func(a *Account, owner string) error) error {
	lock, err := files.LockFile(ctx, l.path(accountLock), files.Exclusive)
	if err != nil {
		return fmt.Errorf("account of the store: %w", err)
	}
	defer lock.Release()
	a := l.Account()
	before, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("account of the store: %w", err)
	}
	if a.Checked.IsZero() {
		os.Remove(l.path(formerAccount)) // nobody reads it any more
	}
	maps.DeleteFunc(a.Open, func(owner string, _ int64) bool {
		if owner == l.name {
			return false
		}
		dead, err := l.isDead(owner)
		return err == nil && dead
	})
	ferr := fn(&a, l.name)
	data, err := json.Marshal(a)
	if err == nil && !bytes.Equal(data, before) {
		err = l.WriteFile(l.path(accountFile), data)
	}
	if err != nil && ferr == nil {
		ferr = fmt.Errorf("account of the store: %w", err)
	}
	return ferr
}

// Noted says that so many of the bytes that the lease wrote or will write are in the
// account, in one way or the other.
func (l *Lease) Noted(bytes int64) { l.noted.Add(bytes) }

// Unnoted returns about how many bytes were added to the folder of which the account does
// not know.
func (l *Lease) Unnoted() int64 { return max(0, l.written.Load()-l.noted.Load()) }
