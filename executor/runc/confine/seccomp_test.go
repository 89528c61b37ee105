//go:build cgo && seccomp && amd64

package confine

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/emulate"
)

// evaluate interprets the subset of BPF that seccomp programs use.
func evaluate(t *testing.T, prog []byte, arch, nr uint32, args ...uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.NativeEndian.PutUint32(data, nr)
	binary.NativeEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.NativeEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog)/8; pc++ {
		in := prog[8*pc:]
		code, jt, jf, k := binary.NativeEndian.Uint16(in), int(in[2]), int(in[3]), binary.NativeEndian.Uint32(in[4:])
		jump := func(taken bool) {
			if taken {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.NativeEndian.Uint32(data[k:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= k
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(k)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == k)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(acc&k != 0)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(acc > k)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= k)
		case unix.BPF_RET | unix.BPF_K:
			return k
		default:
			t.Fatalf("instruction %d: code %#x", pc, code)
		}
	}
	t.Fatal("program has no end")
	return 0
}

// What costs a process a notification is decided by the filter alone.
func TestEmulationProgram(t *testing.T) {
	prog := emulate.Filter()
	const (
		allow  = uint32(unix.SECCOMP_RET_ALLOW)
		notify = uint32(unix.SECCOMP_RET_USER_NOTIF)
		amd64  = unix.AUDIT_ARCH_X86_64
	)
	for _, test := range []struct {
		name string
		nr   uint32
		args []uint64
		want uint32
	}{
		{"read", unix.SYS_READ, nil, allow},
		{"chown", unix.SYS_CHOWN, nil, notify},
		{"chmod", unix.SYS_CHMOD, nil, allow},
		{"getuid", unix.SYS_GETUID, nil, notify},
		{"newfstatat", unix.SYS_NEWFSTATAT, nil, notify},
		{"open", unix.SYS_OPEN, []uint64{0, unix.O_RDWR | unix.O_TRUNC | unix.O_DIRECTORY}, allow},
		{"open that makes", unix.SYS_OPEN, []uint64{0, unix.O_WRONLY | unix.O_CREAT}, notify},
		{"openat", unix.SYS_OPENAT, []uint64{unix.O_CREAT, unix.O_CREAT, unix.O_CLOEXEC, unix.O_CREAT}, allow},
		{"openat that makes", unix.SYS_OPENAT, []uint64{0, 0, unix.O_CREAT}, notify},
		{"openat without a name", unix.SYS_OPENAT, []uint64{0, 0, unix.O_TMPFILE | unix.O_RDWR}, notify},
		{"prctl", unix.SYS_PRCTL, []uint64{unix.PR_SET_NAME}, allow},
		{"prctl that keeps capabilities", unix.SYS_PRCTL, []uint64{unix.PR_SET_KEEPCAPS, 1}, notify},
		{"prctl of bits", unix.SYS_PRCTL, []uint64{unix.PR_SET_SECUREBITS}, notify},
		{"limit of files", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_NOFILE}, allow},
		{"limit of locks", unix.SYS_PRLIMIT64, []uint64{0, unix.RLIMIT_LOCKS}, notify},
		{"the last call of the list", unix.SYS_GETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_PEERCRED}, notify},
		{"another option", unix.SYS_GETSOCKOPT, []uint64{3, unix.SOL_SOCKET, unix.SO_ERROR}, allow},
	} {
		if got := evaluate(t, prog, amd64, test.nr, test.args...); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.name, got, test.want)
		}
	}
	if got := evaluate(t, prog, unix.AUDIT_ARCH_I386, unix.SYS_CHOWN); got != allow {
		t.Errorf("another architecture: %#x", got)
	}
}

func TestSeccompProgram(t *testing.T) {
	prog, err := defaultSeccomp()
	if err != nil {
		t.Fatal(err)
	}
	if len(prog) == 0 || len(prog)%8 != 0 || len(prog)/8 > 4096 {
		t.Fatalf("%d bytes", len(prog))
	}
	const (
		amd64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
		x32         = 0x40000000
		allow       = unix.SECCOMP_RET_ALLOW
		eperm       = uint32(unix.SECCOMP_RET_ERRNO | unix.EPERM)
		enosys      = uint32(unix.SECCOMP_RET_ERRNO | unix.ENOSYS)
	)
	for _, test := range []struct {
		name string
		arch uint32
		nr   uint32
		args []uint64
		want uint32
	}{
		{"read", amd64, unix.SYS_READ, nil, allow},
		{"openat2", amd64, unix.SYS_OPENAT2, nil, allow},
		{"mount", amd64, unix.SYS_MOUNT, nil, eperm},
		{"unshare", amd64, unix.SYS_UNSHARE, nil, eperm},
		{"bpf", amd64, unix.SYS_BPF, nil, eperm},
		{"clone", amd64, unix.SYS_CLONE, []uint64{unix.CLONE_VM}, allow},
		{"clone with a namespace", amd64, unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, eperm},
		{"clone3", amd64, unix.SYS_CLONE3, nil, enosys},
		{"personality of Linux", amd64, unix.SYS_PERSONALITY, []uint64{0}, allow},
		{"personality of others", amd64, unix.SYS_PERSONALITY, []uint64{1}, eperm},
		{"a call of the future", amd64, 100_000, nil, enosys},
		{"i386 read", i386, 3, nil, allow},
		{"i386 mount", i386, 21, nil, eperm},
		{"i386 call of the future", i386, 100_000, nil, enosys},
		{"x32 read", amd64, x32, nil, allow},
		{"x32 mount", amd64, x32 | 165, nil, eperm},
		{"x32 call of the future", amd64, x32 | 100_000, nil, enosys},
	} {
		if got := evaluate(t, prog, test.arch, test.nr, test.args...); got != test.want {
			t.Errorf("%s: %#x, want %#x", test.name, got, test.want)
		}
	}
	if got := evaluate(t, prog, unix.AUDIT_ARCH_AARCH64, 0); got == allow {
		t.Error("a foreign architecture is allowed")
	}
}
