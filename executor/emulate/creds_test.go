package emulate

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/fakeid"
)

func TestCredTable(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(rlimit, &was); err != nil {
		t.Fatal(err)
	}
	if was.Max != unix.RLIM_INFINITY {
		t.Skip("needs an unlimited number of file locks, as processes have by default")
	}
	defer func() {
		if err := unix.Setrlimit(rlimit, &was); err != nil {
			t.Error(err)
		}
	}()
	self := uint32(os.Getpid())
	root := fakeid.New(0, 0, nil)
	table := newCredTable(root)
	if got := *table.of(self); !got.Equal(root) {
		t.Errorf("%+v at first", got)
	}
	for id := uint32(1); ; id++ {
		c := fakeid.New(id, id, []uint32{id})
		errno := table.set(self, c)
		if errno == unix.EAGAIN && len(table.rows) == maxRows {
			break // no process fills this one's memory
		}
		if errno != 0 || !table.of(self).Equal(c) {
			t.Fatalf("%d: %v, %+v", id, errno, table.of(self))
		}
	}
	if errno := table.set(self, root); errno != 0 || !table.of(self).Equal(root) {
		t.Errorf("a known row of a full table: %v", errno)
	}
	// A limit that somebody set for its own sake means nothing here.
	if err := unix.Setrlimit(rlimit, &unix.Rlimit{Cur: 3, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	if !table.of(self).Equal(root) {
		t.Error("a limit of 3 is taken for a row")
	}
	full := newCredTable(root)
	for range 17 {
		c := fakeid.New(1, 1, make([]uint32, 65536))
		c.Groups[0] = uint32(len(full.rows))
		if errno := full.set(self, c); errno == unix.EAGAIN {
			return
		}
	}
	t.Error("17 rows of 65536 groups were taken")
}
