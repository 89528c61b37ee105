//go:build cgo && seccomp

package confine

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	libseccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// compileSeccomp turns a profile into a program for seccomp(2): instructions of
// 8 bytes in this machine's byte order.
//
// libcontainer would do this in every container's first process; it takes 20 ms,
// several times as long as everything else there. The program is the same.
func compileSeccomp(p *specs.LinuxSeccomp) ([]byte, error) {
	filter, err := newFilter(p)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	defer filter.Release()
	prog, err := export(filter)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	stub, err := enosysStub(p)
	if err != nil {
		return nil, fmt.Errorf("compile seccomp profile: %w", err)
	}
	return append(stub, prog...), nil
}

func newFilter(p *specs.LinuxSeccomp) (*libseccomp.ScmpFilter, error) {
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	f, err := libseccomp.NewFilter(def)
	if err != nil {
		return nil, err
	}
	for _, name := range p.Architectures {
		arch, err := archOf(name)
		if err != nil {
			return nil, err
		}
		if err := f.AddArch(arch); err != nil {
			return nil, fmt.Errorf("add %s: %w", name, err)
		}
	}
	// A binary tree over the numbers; older libraries only have the list.
	_ = f.SetOptimize(2)
	for _, call := range p.Syscalls {
		act, err := action(call.Action, call.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if act == def {
			continue
		}
		for _, name := range call.Names {
			if err := addRule(f, name, act, call.Args); err != nil {
				return nil, fmt.Errorf("add rule for %s: %w", name, err)
			}
		}
	}
	return f, nil
}

func addRule(f *libseccomp.ScmpFilter, name string, act libseccomp.ScmpAction, args []specs.LinuxSeccompArg) error {
	nr, err := libseccomp.GetSyscallFromName(name)
	if err != nil {
		return nil // newer than the library: the kernel's default applies
	}
	if len(args) == 0 {
		return f.AddRule(nr, act)
	}
	var conds []libseccomp.ScmpCondition
	seen := map[uint]bool{}
	repeated := false
	for _, a := range args {
		op, err := compareOp(a.Op)
		if err != nil {
			return err
		}
		c, err := libseccomp.MakeCondition(a.Index, op, a.Value, a.ValueTwo)
		if err != nil {
			return err
		}
		conds = append(conds, c)
		repeated = repeated || seen[a.Index]
		seen[a.Index] = true
	}
	if !repeated {
		return f.AddRuleConditional(nr, act, conds)
	}
	// Conditions on one argument cannot be joined in a rule: any of them then
	// suffices, as in runc.
	for _, c := range conds {
		if err := f.AddRuleConditional(nr, act, []libseccomp.ScmpCondition{c}); err != nil {
			return err
		}
	}
	return nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (libseccomp.ScmpAction, error) {
	ret := int16(unix.EPERM)
	if errno != nil {
		ret = int16(*errno)
	}
	switch a {
	case specs.ActAllow:
		return libseccomp.ActAllow, nil
	case specs.ActErrno:
		return libseccomp.ActErrno.SetReturnCode(ret), nil
	case specs.ActKill, specs.ActKillThread:
		return libseccomp.ActKillThread, nil
	case specs.ActKillProcess:
		return libseccomp.ActKillProcess, nil
	case specs.ActTrap:
		return libseccomp.ActTrap, nil
	case specs.ActLog:
		return libseccomp.ActLog, nil
	}
	return libseccomp.ActInvalid, fmt.Errorf("unsupported action %s", a)
}

func compareOp(op specs.LinuxSeccompOperator) (libseccomp.ScmpCompareOp, error) {
	switch op {
	case specs.OpEqualTo:
		return libseccomp.CompareEqual, nil
	case specs.OpNotEqual:
		return libseccomp.CompareNotEqual, nil
	case specs.OpGreaterThan:
		return libseccomp.CompareGreater, nil
	case specs.OpGreaterEqual:
		return libseccomp.CompareGreaterEqual, nil
	case specs.OpLessThan:
		return libseccomp.CompareLess, nil
	case specs.OpLessEqual:
		return libseccomp.CompareLessOrEqual, nil
	case specs.OpMaskedEqual:
		return libseccomp.CompareMaskedEqual, nil
	}
	return libseccomp.CompareInvalid, fmt.Errorf("unsupported operator %s", op)
}

func archOf(a specs.Arch) (libseccomp.ScmpArch, error) {
	return libseccomp.GetArchFromString(strings.ToLower(strings.TrimPrefix(string(a), "SCMP_ARCH_")))
}

// export reads the program out of the library, which writes it to a file.
func export(f *libseccomp.ScmpFilter) ([]byte, error) {
	fd, err := unix.MemfdCreate("seccomp", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "seccomp")
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// enosysStub is put before the program: system calls with numbers above all that
// the profile knows give ENOSYS instead of the profile's EPERM, so that programs
// fall back to older calls (runc does this too).
func enosysStub(p *specs.LinuxSeccomp) ([]byte, error) {
	const (
		offsetNr, offsetArch = 0, 4
		x32Bit               = 0x40000000
	)
	last := map[uint32][]uint32{} // by audit architecture: the largest numbers, x32's after
	for _, name := range p.Architectures {
		arch, err := archOf(name)
		if err != nil {
			return nil, err
		}
		audit, ok := auditArch(arch)
		if !ok {
			return nil, nil // no stub for this machine: EPERM it is
		}
		last[audit] = append(last[audit], largestSyscall(p, arch))
	}
	var prog []unix.SockFilter
	ret := uint32(unix.SECCOMP_RET_ERRNO | unix.ENOSYS)
	for audit, max := range last {
		body := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNr}}
		limit := max[0]
		if len(max) > 1 { // x86-64 and x32 share an architecture
			if limit&x32Bit != 0 {
				limit, max[1] = max[1], limit
			}
			body = append(body,
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: x32Bit, Jt: 0, Jf: 1},
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: max[1], Jt: 1, Jf: 2})
		}
		body = append(body,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: limit, Jt: 0, Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: ret})
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArch},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: audit, Jt: 0, Jf: uint8(len(body))})
		prog = append(prog, body...)
	}
	var out []byte
	for _, in := range prog {
		out = binary.NativeEndian.AppendUint16(out, in.Code)
		out = append(out, in.Jt, in.Jf)
		out = binary.NativeEndian.AppendUint32(out, in.K)
	}
	return out, nil
}

func largestSyscall(p *specs.LinuxSeccomp, arch libseccomp.ScmpArch) uint32 {
	var largest uint32
	for _, call := range p.Syscalls {
		for _, name := range call.Names {
			nr, err := libseccomp.GetSyscallFromNameByArch(name, arch)
			if err == nil && nr >= 0 && uint32(nr) > largest {
				largest = uint32(nr)
			}
		}
	}
	return largest
}

// auditArch is the kernel's name of an architecture (linux/audit.h).
func auditArch(a libseccomp.ScmpArch) (uint32, bool) {
	switch a {
	case libseccomp.ArchAMD64, libseccomp.ArchX32:
		return unix.AUDIT_ARCH_X86_64, true
	case libseccomp.ArchX86:
		return unix.AUDIT_ARCH_I386, true
	case libseccomp.ArchARM64:
		return unix.AUDIT_ARCH_AARCH64, true
	case libseccomp.ArchARM:
		return unix.AUDIT_ARCH_ARM, true
	case libseccomp.ArchPPC64LE:
		return unix.AUDIT_ARCH_PPC64LE, true
	case libseccomp.ArchS390X:
		return unix.AUDIT_ARCH_S390X, true
	case libseccomp.ArchRISCV64:
		return unix.AUDIT_ARCH_RISCV64, true
	}
	return 0, false
}
