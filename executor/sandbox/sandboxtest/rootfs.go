// Package sandboxtest is the conformance suite that every sandbox.Sandbox must
// pass. It needs a static busybox at /bin/busybox (Debian's package busybox-static),
// and root unless the sandbox is Plain.
package sandboxtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/snapshot"
)

const busybox = "/bin/busybox"

// Env is a sandbox with a root file system to run in.
type Env struct {
	Sandbox sandbox.Sandbox
	// Lower is the layer that holds busybox; Upper receives what runs change.
	Lower, Upper string
	work         string
	ids          atomic.Int64
	// plain is Promises.Plain: the root file system is a copy of Lower, in Upper.
	plain bool
	laid  bool // the copy is made
}

// Root is the root file system.
func (e *Env) Root() snapshot.Mount {
	if e.plain {
		return snapshot.Mount{Upper: e.Upper}
	}
	return snapshot.Mount{Lower: []string{e.Lower}, Upper: e.Upper, Work: e.work}
}

// Rootfs makes a directory with busybox and the few files that an image has.
func Rootfs(tb testing.TB) string {
	tb.Helper()
	if _, err := os.Stat(busybox); err != nil {
		tb.Skip("needs a static busybox: " + err.Error())
	}
	dir := filepath.Join(tb.TempDir(), "rootfs")
	for _, d := range []string{"bin", "etc", "tmp", "root", "home/app", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	copyFile(tb, busybox, filepath.Join(dir, "bin/busybox"))
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range strings.Fields(string(out)) {
		if name != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
				tb.Fatal(err)
			}
		}
	}
	write(tb, filepath.Join(dir, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
	write(tb, filepath.Join(dir, "etc/group"), "root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// NewEnv makes an Env with an empty upper directory.
func NewEnv(tb testing.TB, sb sandbox.Sandbox) *Env {
	tb.Helper()
	lower := Rootfs(tb)
	dir := tb.TempDir()
	e := &Env{Sandbox: sb, Lower: lower, Upper: filepath.Join(dir, "upper"), work: filepath.Join(dir, "work")}
	for _, d := range []string{e.Upper, e.work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	return e
}

// Spec is a process in the Env's root file system without a network.
func (e *Env) Spec(args ...string) *sandbox.Spec {
	if e.plain && !e.laid {
		e.layOut()
	}
	return &sandbox.Spec{
		ID:      "test-" + itoa(e.ids.Add(1)),
		Root:    e.Root(),
		Args:    args,
		Env:     []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		Cwd:     "/",
		Network: "none",
	}
}

// Shell is Spec for a shell script.
func (e *Env) Shell(script string) *sandbox.Spec { return e.Spec("/bin/sh", "-c", script) }

// Result is what a run gave.
type Result struct {
	sandbox.Exit
	Out, Err string
}

// Run runs a Spec and collects its output.
func (e *Env) Run(t *testing.T, spec *sandbox.Spec) Result {
	t.Helper()
	var out, errOut bytes.Buffer
	spec.Stdout, spec.Stderr = &out, &errOut
	exit, err := e.Sandbox.Run(t.Context(), spec)
	if err != nil {
		t.Fatalf("run %q: %v\nstderr: %s", spec.Args, err, errOut.String())
	}
	return Result{exit, out.String(), errOut.String()}
}

// Must is Run for a process that succeeds; it returns its trimmed output.
func (e *Env) Must(t *testing.T, spec *sandbox.Spec) string {
	t.Helper()
	r := e.Run(t, spec)
	if r.Code != 0 {
		t.Fatalf("run %q: exit code %d\nstdout: %s\nstderr: %s", spec.Args, r.Code, r.Out, r.Err)
	}
	return strings.TrimSpace(r.Out)
}

// Changes lists what the runs left in the upper directory.
func (e *Env) Changes(t *testing.T) []string {
	t.Helper()
	if e.plain {
		return e.differences(t)
	}
	var out []string
	err := filepath.WalkDir(e.Upper, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != e.Upper {
			out = append(out, strings.TrimPrefix(path, e.Upper+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func copyFile(tb testing.TB, from, to string) {
	tb.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		tb.Fatal(err)
	}
}

func write(tb testing.TB, path, data string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		tb.Fatal(err)
	}
}

func itoa(n int64) string {
	b := []byte{}
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}
