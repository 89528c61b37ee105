package binfmt

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// aarch64 is what the kernel shows of Debian's handler.
const aarch64 = `enabled
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
`

func machine(t *testing.T, files map[string]string) Machine {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Machine{Own: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Dir: dir}
}

func TestCanRun(t *testing.T) {
	on := map[string]string{"status": "enabled\n", "register": "", "qemu-aarch64": aarch64, "jar": "enabled\ninterpreter /usr/bin/java\nflags: F\nextension .jar\n"}
	for _, c := range []struct {
		name     string
		files    map[string]string
		platform string
		want     string // part of the error, "" for none
	}{
		{"own", nil, "linux/amd64", ""},
		{"lesser variant", nil, "linux/amd64/v1", ""},
		{"emulated", on, "linux/arm64", ""},
		{"variant emulated", on, "linux/arm64/v8", ""},
		{"other handler", on, "linux/s390x", "no emulator is registered in binfmt_misc"},
		{"32 bits of it", on, "linux/arm/v7", "no emulator is registered"},
		{"unknown", on, "linux/vax", "no emulator is known for vax"},
		{"system", on, "freebsd/amd64", "another system"},
		{"not mounted", nil, "linux/arm64", "binfmt_misc is not mounted at"},
		{"off", map[string]string{"status": "disabled\n", "a": aarch64}, "linux/arm64", "binfmt_misc is disabled"},
		{"handler off", map[string]string{"status": "enabled\n", "a": strings.Replace(aarch64, "enabled", "disabled", 1)}, "linux/arm64", "no emulator is registered"},
		{"no F", map[string]string{"status": "enabled\n", "a": strings.Replace(aarch64, "POCF", "POC", 1)}, "linux/arm64", "the handler a in binfmt_misc lacks the flag F"},
		{"damaged", map[string]string{"status": "enabled\n", "a": strings.Replace(aarch64, "magic 7f", "magic xx", 1)}, "linux/arm64", "no emulator is registered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, c.files)
			err := m.CanRun(platforms.Normalize(platforms.MustParse(c.platform)))
			if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrNone)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// The header that stands for an architecture is what real executables have.
func TestHeaderIsThisProgram(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	h, ok := elfHeader(runtime.GOARCH)
	if !ok {
		t.Skip("no header for " + runtime.GOARCH)
	}
	if string(self[:7]) != string(h[:7]) || string(self[18:20]) != string(h[18:20]) {
		t.Errorf("%x, want %x", h, self[:20])
	}
}

func TestRuns32(t *testing.T) {
	if runs32("s390x") {
		t.Error("runs s390x")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the probe's answer is known for amd64 only")
	}
	if runs32("arm") {
		t.Error("amd64 runs arm without an emulator, or one is registered")
	}
	if _, err := os.Stat("/proc/sys/abi/vsyscall32"); err != nil {
		t.Skip("the kernel has no 32-bit mode: " + err.Error())
	}
	if !runs32("386") {
		t.Error("amd64 does not run 386")
	}
}
