package filter

import "golang.org/x/sys/unix"

// auditArch is what seccomp calls this machine.
const auditArch = unix.AUDIT_ARCH_X86_64
