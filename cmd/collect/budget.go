package collect

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Budget bounds a store; BuildKit's three numbers, in bytes, and a rule for images. Zero is no bound.
type Budget struct {
	Reserved int64 // is never gone below
	MaxUsed  int64
	MinFree  int64 // of the file system
	// UnusedImages is after which time without use an image with a name may go where the
	// budget asks for room; 0: never.
	UnusedImages time.Duration
}

// isBounded reports whether there is any bound.
func (b Budget) isBounded() bool { return b.Reserved != 0 || b.MaxUsed != 0 || b.MinFree != 0 }

// unused is PruneOptions.Unused for the budget.
func (b Budget) unused(now time.Time) time.Time {
	if b.UnusedImages == 0 {
		return time.Time{}
	}
	return now.Add(-b.UnusedImages)
}

// Exceeds reports whether a store of so many bytes, of which nothing can go any more, is
// larger than the budget allows.
func (b Budget) Exceeds(left int64) bool { return b.MaxUsed > 0 && left > max(b.MaxUsed, b.Reserved) }

// keep returns how many bytes may stay.
func (b Budget) keep(total, free int64) int64 {
	if !b.isBounded() {
		return 0
	}
	keep := total
	if b.MaxUsed > 0 {
		keep = min(keep, b.MaxUsed)
	} else if b.MinFree == 0 {
		keep = b.Reserved
	}
	if lack := b.MinFree - free; b.MinFree > 0 && lack > 0 {
		keep = min(keep, total-lack)
	}
	return max(keep, b.Reserved, 0)
}

// FreeSpace is how many bytes are free on the file system of a folder.
func FreeSpace(dir string) (int64, error) {
	_, free, err := Disk(dir)
	return free, err
}

// Disk returns the size of a folder's file system and what is free of it.
func Disk(dir string) (size, free int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}
