package emulate

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_AARCH64

// archCalls: this architecture only has the calls that take a directory.
func archCalls() []call { return nil }

func isMknod(int32) bool { return false }
