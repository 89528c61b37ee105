package emulate

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	offsetNr   = 0
	offsetArch = 4
	offsetArgs = 16
)

// condition makes a system call a matter of this package only if an argument has
// one of the bits, or is one of the values.
type condition struct {
	arg    int
	bits   uint32
	values []uint32
}

// body are the instructions that notify if the condition holds and allow otherwise.
func (c *condition) body(allow, notify unix.SockFilter) []unix.SockFilter {
	// The lower half of the argument: all architectures here are little-endian.
	out := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArgs + 8*uint32(c.arg)}}
	if c.bits != 0 {
		out = append(out, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: c.bits, Jf: 1}, notify)
	}
	for _, v := range c.values {
		out = append(out, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: v, Jf: 1}, notify)
	}
	return append(out, allow)
}

// Filter is the program for seccomp(2), instructions of 8 bytes in this machine's
// byte order: the calls that this package answers give a notification, all others,
// and those of programs for other architectures, are allowed.
func Filter() []byte {
	load := func(off uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: off}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	allow, notify := ret(unix.SECCOMP_RET_ALLOW), ret(unix.SECCOMP_RET_USER_NOTIF)
	equal := func(k uint32, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: jt, Jf: jf}
	}
	prog := []unix.SockFilter{load(offsetArch), equal(nativeArch, 1, 0), allow, load(offsetNr)}
	for _, c := range calls() {
		if c.when == nil {
			prog = append(prog, equal(uint32(c.nr), 0, 1), notify)
			continue
		}
		body := c.when.body(allow, notify)
		prog = append(append(prog, equal(uint32(c.nr), 0, uint8(len(body)))), body...)
	}
	prog = append(prog, allow)
	var out []byte
	for _, in := range prog {
		out = binary.NativeEndian.AppendUint16(out, in.Code)
		out = append(out, in.Jt, in.Jf)
		out = binary.NativeEndian.AppendUint32(out, in.K)
	}
	return out
}
