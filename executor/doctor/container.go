package doctor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/runc"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// trialTime is far more than a container takes to start.
const trialTime = time.Minute

// tryContainer starts a container as a step's, with a network, and sees to it that a
// program runs in it. It does so in memory, which it mounts: this process has a mount
// namespace of its own.
func tryContainer() (err error) {
	dir, err := memory()
	if err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "true"), trueProgram(), 0o755); err != nil {
		return err
	}
	s, err := runc.New(runc.Options{StateDir: filepath.Join(dir, "sandbox")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), trialTime)
	defer cancel()
	var said bytes.Buffer
	exit, err := s.Run(ctx, &sandbox.Spec{
		ID: fmt.Sprintf("trial-%d", os.Getpid()), Root: snapshot.Mount{Upper: root}, Args: []string{"/true"},
		Network: dag.NetDefault, Stdout: &said, Stderr: &said,
	})
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("a program in a container ends with %d %s", exit.Code, strings.TrimSpace(said.String()))
	}
	return err
}

// memory mounts a file system in memory on some directory.
func memory() (string, error) {
	var errs []error
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp", "/run", "/dev/shm", "/mnt"} {
		err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755")
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("mount tmpfs: %w", err))
		}
	}
	if len(errs) == 0 {
		return "", errors.New("mount tmpfs: there is no directory for it")
	}
	return "", errs[0]
}

// trueProgram is an executable file (ELF, for this machine) that needs nothing and ends
// with 0.
func trueProgram() []byte {
	machine, code := uint16(62), []byte{0xb8, 231, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // mov eax, exit_group; xor edi, edi; syscall
	if runtime.GOARCH == "arm64" {
		machine = 183
		code = []byte{0xc8, 0x0b, 0x80, 0xd2, 0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4} // mov x8, exit_group; mov x0, 0; svc 0
	}
	const head, segment, base = 64, 56, 0x400000
	size := uint64(head + segment + len(code))
	b := []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	le := binary.LittleEndian
	b = le.AppendUint16(b, 2) // ET_EXEC
	b = le.AppendUint16(b, machine)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+head+segment) // entry
	b = le.AppendUint64(b, head)              // program headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, half := range []uint16{head, segment, 1, 64, 0, 0} {
		b = le.AppendUint16(b, half)
	}
	b = le.AppendUint32(b, 1) // PT_LOAD
	b = le.AppendUint32(b, 5) // read, execute
	for _, long := range []uint64{0, base, base, size, size, 0x1000} {
		b = le.AppendUint64(b, long)
	}
	return append(b, code...)
}
