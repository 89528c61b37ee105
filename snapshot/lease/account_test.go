package lease

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func look(*Account, string) error { return nil }

// What earlier versions wrote is not believed, and goes.
func TestFormerAccounts(t *testing.T) {
	root := folder(t)
	l := open(t, root)
	must(t, os.WriteFile(filepath.Join(root, formerAccount), []byte(`{"Checked":"2026-01-01T00:00:00Z","Used":7,"Written":3}`), 0o600))
	must(t, os.WriteFile(filepath.Join(root, accountFile), []byte(`{"Used":1000,"Let":100,"Open":{"`+l.Name()+`":40,"p0":2}}`), 0o600))
	must(t, l.WithAccount(t.Context(), func(a *Account, owner string) error {
		if !a.Checked.IsZero() || a.Total() != 0 || a.Pending() != 40 {
			t.Errorf("an account of an earlier version counts: %+v", a)
		}
		a.Measured(500, a.Clone())
		return nil
	}))
	if _, err := os.Lstat(filepath.Join(root, formerAccount)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", formerAccount, err)
	}
	if a := l.Account(); a.Checked.IsZero() || a.Used != 500 || a.Let != 40 {
		t.Errorf("after measuring: %+v", a)
	}
}

// An account that is not changed is not written; one that is new is not made.
func TestUnchangedAccount(t *testing.T) {
	root := folder(t)
	l := open(t, root)
	must(t, l.WithAccount(t.Context(), look))
	if _, err := os.Lstat(filepath.Join(root, accountFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("looking at it made an account: %v", err)
	}
	must(t, l.WithAccount(t.Context(), func(a *Account, owner string) error {
		a.Measured(1, *a)
		a.Enter(owner, 5)
		return nil
	}))
	var before, after unix.Stat_t
	must(t, unix.Stat(filepath.Join(root, accountFile), &before))
	must(t, l.WithAccount(t.Context(), look))
	must(t, unix.Stat(filepath.Join(root, accountFile), &after))
	if before.Ino != after.Ino || before.Mtim != after.Mtim || before.Ctim != after.Ctim {
		t.Error("looking at it wrote the account")
	}
}

// Nobody's change is lost, and who reads without the lock reads whole accounts.
func TestAccountOfMany(t *testing.T) {
	const leases, each = 4, 50
	root := folder(t)
	first := open(t, root)
	must(t, first.WithAccount(t.Context(), func(a *Account, _ string) error { a.Measured(1, *a); return nil }))
	ctx, stop := context.WithCancel(t.Context())
	var reading, writing sync.WaitGroup
	reading.Go(func() {
		for ctx.Err() == nil {
			if a := first.Account(); a.Used != 1 {
				t.Errorf("read %+v", a)
				return
			}
		}
	})
	for range leases {
		l := open(t, root)
		writing.Go(func() {
			for range each {
				if err := l.WithAccount(t.Context(), func(a *Account, owner string) error {
					a.Enter(owner, 3)
					a.Settle(owner, 3, 2)
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	stop()
	reading.Wait()
	if a := first.Account(); a.Let != leases*each*2 || a.Pending() != 0 {
		t.Errorf("all together came to %+v", a)
	}
}

func TestUnnoted(t *testing.T) {
	l := open(t, folder(t))
	l.Made(10)
	l.Noted(4)
	if n := l.Unnoted(); n != 6 {
		t.Errorf("%d bytes are not noted, not 6", n)
	}
	l.Noted(20) // let in and not written yet
	if n := l.Unnoted(); n != 0 {
		t.Errorf("%d bytes are not noted, not 0", n)
	}
}
