// Package binfmt tells which platforms this machine runs, by itself or through
// an emulator that is registered with the kernel
// (https://docs.kernel.org/admin-guide/binfmt-misc.html).
package binfmt

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Dir is where the kernel lists its handlers.
const Dir = "/proc/sys/fs/binfmt_misc"

// ErrNone says that a platform needs an emulator and there is none.
var ErrNone = errors.New("no emulator")

// Machine is what a machine can run.
type Machine struct {
	// Own is its platform.
	Own ocispec.Platform
	// Dir lists the kernel's handlers; "" means the constant Dir.
	Dir string
}

// Local is the platform of this machine's processes.
func Local() ocispec.Platform {
	p := platforms.DefaultSpec()
	p.OS = "linux"
	p.OSVersion, p.OSFeatures = "", nil
	return platforms.Normalize(p)
}

// CanRun returns nil if processes of a platform run here: natively, or with an
// emulator that works inside any root file system. Otherwise the error says what
// is missing; it matches ErrNone.
func (m Machine) CanRun(p ocispec.Platform) error {
	if platforms.Only(m.Own).Match(p) && (p.Architecture == m.Own.Architecture || runs32(p.Architecture)) {
		return nil
	}
	if p.OS != m.Own.OS {
		return fmt.Errorf("%w for another system", ErrNone)
	}
	header, ok := elfHeader(p.Architecture)
	if !ok {
		return fmt.Errorf("%w is known for %s", ErrNone, p.Architecture)
	}
	return m.handled(header)
}

// handled looks for a handler of executables that begin so.
func (m Machine) handled(header []byte) error {
	dir := m.Dir
	if dir == "" {
		dir = Dir
	}
	if status, err := os.ReadFile(filepath.Join(dir, "status")); err != nil {
		return fmt.Errorf("%w: binfmt_misc is not mounted at %s", ErrNone, dir)
	} else if strings.TrimSpace(string(status)) != "enabled" {
		return fmt.Errorf("%w: binfmt_misc is disabled", ErrNone)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNone, err)
	}
	late := ""
	for _, e := range entries {
		if e.Name() == "status" || e.Name() == "register" {
			continue
		}
		h, err := readHandler(filepath.Join(dir, e.Name()))
		if err != nil || !h.enabled || !h.matches(header) {
			continue
		}
		if strings.Contains(h.flags, "F") {
			return nil
		}
		late = e.Name()
	}
	if late != "" {
		return fmt.Errorf("%w that containers can use: the handler %s in binfmt_misc lacks the flag F", ErrNone, late)
	}
	return fmt.Errorf("%w is registered in binfmt_misc", ErrNone)
}

// handler is one entry of binfmt_misc.
type handler struct {
	enabled     bool
	flags       string
	offset      int
	magic, mask []byte
}

func readHandler(path string) (*handler, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err // removed meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("read handler: %w", err)
	}
	defer f.Close()
	h := &handler{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		switch strings.TrimSuffix(key, ":") {
		case "enabled":
			h.enabled = true
		case "flags":
			h.flags = value
		case "offset":
			h.offset, err = strconv.Atoi(value)
		case "magic":
			h.magic, err = hex.DecodeString(value)
		case "mask":
			h.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return nil, fmt.Errorf("read handler %s: %w", path, err)
		}
	}
	return h, lines.Err()
}

// matches reports whether the handler takes files that begin so. Bytes after the
// header that are looked at must not matter.
func (h *handler) matches(header []byte) bool {
	if len(h.magic) == 0 || h.offset != 0 {
		return false // it goes by the file's extension, or looks elsewhere
	}
	for i, want := range h.magic {
		mask, got := byte(0xff), byte(0)
		if i < len(h.mask) {
			mask = h.mask[i]
		}
		if i < len(header) {
			got = header[i]
		}
		if (got^want)&mask != 0 {
			return false
		}
	}
	return true
}
