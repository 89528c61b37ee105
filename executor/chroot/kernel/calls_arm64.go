package kernel

import (
	"golang.org/x/sys/unix"
)

// legacyCalls are those that have another number or form on each machine.
func legacyCalls() map[int]answer {
	return map[int]answer{
		unix.SYS_FSTATAT:  func(c *call) (int64, error) { return c.doStat(c.FD(0), 1, 2, c.Flags(3)) },
		unix.SYS_RENAMEAT: func(c *call) (int64, error) { return c.doRename(c.FD(0), 1, c.FD(2), 3, 0) },
	}
}
