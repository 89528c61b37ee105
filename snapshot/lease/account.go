package lease

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
)

const (
	accountFile = "room.json"
	accountLock = "room.lock"
)

// Account is what those that use a store know together about its size, in bytes.
type Account struct {
	// Used is what was measured last, 0 if that never was.
	Used int64
	// Let is what was let in since, by all.
	Let int64
	// Open is the part of Let, or of what was let in before, that is not on disk yet,
	// by lease.
	Open map[string]int64
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

// Measured begins anew from what is on disk. Before is the account as it was when the
// measurement began: what was pending then, and what was let in since, may not have been
// found.
func (a *Account) Measured(bytes int64, before Account) {
	a.Used, a.Let = bytes, max(a.Pending(), before.Pending()+a.Let-before.Let)
}

// WithAccount calls fn with the store's account, which fn may change, while nobody else
// does. Owner is the name of this lease in it. What leases had open that have ended does
// not count as such.
func (l *Lease) WithAccount(ctx context.Context, fn func(a *Account, owner string) error) error {
	lock, err := files.LockFile(ctx, l.path(accountLock), files.Exclusive)
	if err != nil {
		return fmt.Errorf("account of the store: %w", err)
	}
	defer lock.Release()
	f, err := os.OpenFile(l.path(accountFile), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("account of the store: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("account of the store: %w", err)
	}
	var a Account
	if json.Unmarshal(data, &a) != nil { // somebody was killed meanwhile: measure again
		a = Account{}
	}
	maps.DeleteFunc(a.Open, func(owner string, _ int64) bool {
		if owner == l.name {
			return false
		}
		dead, err := l.isDead(owner)
		return err == nil && dead
	})
	ferr := fn(&a, l.name)
	if data, err = json.Marshal(a); err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(data, 0)
	}
	if err != nil && ferr == nil {
		ferr = fmt.Errorf("account of the store: %w", err)
	}
	return ferr
}
