package chroot

import (
	"golang.org/x/sys/unix"
)

// legacyCalls are those that have another number or form on each machine.
func legacyCalls() map[int]handler {
	return map[int]handler{
		unix.SYS_FSTATAT:  func(c *call) (int64, error) { return c.doStat(c.fd(0), 1, 2, c.flags(3)) },
		unix.SYS_RENAMEAT: func(c *call) (int64, error) { return c.doRename(c.fd(0), 1, c.fd(2), 3, 0) },
	}
}
