package sandboxtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/snapshot/owner"
)

func testExitCodes(t *testing.T, e *Env) {
	for script, want := range map[string]int{
		"true": 0, "exit 3": 3, "kill -TERM $$": 0, "kill -KILL $$": 0, "no-such-command": 127, "/etc": 126,
	} {
		if sig, ok := strings.CutPrefix(script, "kill -"); ok && e.plain {
			want = map[string]int{"TERM $$": 143, "KILL $$": 137}[sig] // it is not pid 1
		}
		if got := e.Run(t, e.Shell(script)).Code; got != want {
			// pid 1 of its namespace does not die from its own signals
			t.Errorf("%s: exit code %d, want %d", script, got, want)
		}
	}
	if got := e.Run(t, e.Shell("sh -c 'kill -TERM $$'; exit $?")).Code; got != 143 {
		t.Errorf("signal: exit code %d, want 143", got)
	}
	r := e.Run(t, e.Shell("echo out; echo err >&2; exit 3"))
	if r.Code != 3 || r.Out != "out\n" || r.Err != "err\n" {
		t.Errorf("got %+v", r)
	}
}

func testNotExecutable(t *testing.T, e *Env) {
	write(t, filepath.Join(e.Lower, "bin/plain"), "#!/bin/sh\n")
	for name, text := range map[string]string{"bin/lacking": "#!/nowhere/sh\n", "bin/foreign": "\x7fELF of some kind"} {
		write(t, filepath.Join(e.Lower, name), text)
		if err := os.Chmod(filepath.Join(e.Lower, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		arg  string
		code int
		msg  string
	}{
		{"foo", 127, `exec: "foo": executable file not found in $PATH`},
		{"/bin/foo", 127, `exec: "/bin/foo": stat /bin/foo: no such file or directory`},
		{"/bin/plain", 126, `exec: "/bin/plain": permission denied`},
		{"/etc", 126, `exec: "/etc": is a directory`},
		{"/bin/lacking", 127, "exec /bin/lacking: no such file or directory"},
		{"/bin/foreign", 126, "exec /bin/foreign: exec format error"},
	} {
		spec := e.Spec(test.arg)
		for _, spec.Complaint = range []string{"", "sorry: "} {
			r := e.Run(t, spec)
			if r.Code != test.code || strings.TrimSpace(r.Err) != spec.Complaint+test.msg {
				t.Errorf("%s: code %d, message %q", test.arg, r.Code, r.Err)
			}
		}
	}
}

func testEnvironment(t *testing.T, e *Env) {
	t.Setenv("BUILDER_SANDBOXTEST", "leak")
	spec := e.Spec("/bin/env")
	spec.Env = append(spec.Env, "A=1", "B=x y", "A=2")
	got := strings.Fields(e.Must(t, spec))
	want := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin B=x y A=2 HOME=/root"
	if strings.Join(got, " ") != want {
		t.Errorf("environment: %q, want %q", strings.Join(got, " "), want)
	}
	spec = e.Shell("echo $HOME")
	spec.User = sandbox.User{UID: 1000, GID: 1000}
	if got := e.Must(t, spec); got != "/home/app" {
		t.Errorf("HOME of uid 1000: %q", got)
	}
}

func testFiles(t *testing.T, e *Env) {
	// ls itself opens 3.
	if got := e.Must(t, e.Spec("/bin/ls", "/proc/self/fd")); strings.Join(strings.Fields(got), " ") != "0 1 2 3" {
		t.Errorf("open files: %q", got)
	}
	if got := e.Must(t, e.Shell("umask")); got != "0022" {
		t.Errorf("umask: %q", got)
	}
	if e.plain { // no namespace of processes either
		return
	}
	if got := e.Must(t, e.Shell("echo $$; ls /proc | grep -c '^[0-9]'")); got != "1\n4" { // sh, its child, ls, grep
		t.Logf("processes: %q", got)
		if !strings.HasPrefix(got, "1\n") {
			t.Errorf("not the first process: %q", got)
		}
	}
}

func testStdin(t *testing.T, e *Env) {
	spec := e.Spec("/bin/cat")
	spec.Stdin = strings.NewReader("hello")
	if got := e.Must(t, spec); got != "hello" {
		t.Errorf("got %q", got)
	}
	if got := e.Must(t, e.Spec("/bin/cat")); got != "" {
		t.Errorf("without stdin: %q", got)
	}
	// A Stdin that never ends does not keep Run.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	spec = e.Shell("read x; echo $x")
	spec.Stdin = r
	if _, err := w.WriteString("line\n"); err != nil {
		t.Fatal(err)
	}
	if got := e.Must(t, spec); got != "line" {
		t.Errorf("got %q", got)
	}
	big := strings.Repeat("0123456789abcdef", 1<<16)
	spec = e.Spec("/bin/cat")
	spec.Stdin = strings.NewReader(big)
	if got := e.Must(t, spec); got != big {
		t.Errorf("got %d bytes of %d", len(got), len(big))
	}
}

func testWorkingDirectory(t *testing.T, e *Env) {
	spec := e.Shell("pwd; stat -c %u:%g .")
	spec.Cwd, spec.User = "/new/dir", sandbox.User{UID: 1000, GID: 1000}
	if got := e.Must(t, spec); got != "/new/dir\n1000:1000" {
		t.Errorf("missing directory: %q", got)
	}
	spec = e.Shell("pwd; stat -c %u:%g .")
	spec.Cwd, spec.User = "/tmp", sandbox.User{UID: 1000, GID: 1000}
	if got := e.Must(t, spec); got != "/tmp\n0:0" {
		t.Errorf("existing directory: %q", got)
	}
}

func testUser(t *testing.T, e *Env) {
	spec := e.Spec("/bin/id")
	spec.User = sandbox.User{UID: 1000, GID: 1000, Groups: []uint32{1000, 2000}}
	if got := e.Must(t, spec); got != "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)" {
		t.Errorf("got %q", got)
	}
	spec = e.Shell("id -u; echo x > /tmp/mine; cat /proc/self/status | grep CapEff")
	spec.User = sandbox.User{UID: 4711, GID: 0}
	want := "4711\nCapEff:\t0000000000000000"
	if owner.Emulated() && os.Geteuid() == 0 { // then the kernel knows root only
		want = "4711\nCapEff:\t00000000a80425fb"
	}
	if got := e.Must(t, spec); got != want {
		t.Errorf("got %q", got)
	}
}

func testHostname(t *testing.T, e *Env) {
	if got := e.Must(t, e.Shell("hostname")); got != "buildkitsandbox" {
		t.Errorf("default: %q", got)
	}
	spec := e.Shell("hostname; grep -w here /etc/hosts")
	spec.Hostname = "here"
	if got := e.Must(t, spec); got != "here\n127.0.0.1\tlocalhost here" {
		t.Errorf("got %q", got)
	}
	if host, err := os.Hostname(); err != nil || host == "here" {
		t.Errorf("the machine's name is %q now (%v)", host, err)
	}
}

func testTerminal(t *testing.T, e *Env) {
	resize := make(chan [2]uint16, 1)
	resize <- [2]uint16{100, 40}
	spec := e.Shell("tty; read go; stty size; test -t 0 && test -t 1 && test -t 2 && echo terminal")
	spec.TTY, spec.Resize = true, resize
	in, inw := io.Pipe()
	defer in.Close()
	spec.Stdin = in
	out := &prompt{want: "/dev/", then: func() { _, _ = inw.Write([]byte("\n")) }}
	spec.Stdout = out
	exit, err := e.Sandbox.Run(t.Context(), spec)
	if err != nil || exit.Code != 0 {
		t.Fatalf("%+v %v", exit, err)
	}
	for _, want := range []string{"40 100", "terminal"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
}

// prompt is a writer that does something once it has seen a string.
type prompt struct {
	bytes.Buffer
	want string
	then func()
}

func (p *prompt) Write(b []byte) (int, error) {
	n, err := p.Buffer.Write(b)
	if p.then != nil && strings.Contains(p.String(), p.want) {
		go p.then()
		p.then = nil
	}
	return n, err
}

func testDaemon(t *testing.T, e *Env) {
	start := time.Now()
	mark := "31" + itoa(int64(os.Getpid()))
	r := e.Run(t, e.Shell("sleep "+mark+" & echo started"))
	if r.Out != "started\n" {
		t.Errorf("got %q", r.Out)
	}
	if d := time.Since(start); d > patience {
		t.Errorf("took %v", d)
	}
	if pids := processes(t, mark); len(pids) != 0 {
		t.Errorf("left behind: %v", pids)
	}
}

func testCancel(t *testing.T, e *Env) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	why := errors.New("enough")
	mark := "32" + itoa(int64(os.Getpid()))
	spec := e.Shell("trap '' TERM INT; (setsid sh -c 'trap \"\" TERM; sleep " + mark + "' &); echo ready; sleep " + mark)
	spec.Stdout = &prompt{want: "ready", then: func() { cancel(why) }}
	_, err := e.Sandbox.Run(ctx, spec)
	if !errors.Is(err, why) {
		t.Errorf("error %v, want the cause", err)
	}
	if pids := processes(t, mark); len(pids) != 0 {
		t.Errorf("left behind: %v", pids)
	}
	if _, err := e.Sandbox.Run(ctx, e.Shell("true")); !errors.Is(err, why) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// A signal reaches the process, which may do something about it; one that does nothing
// is ended by those that end programs.
func testSignals(t *testing.T, e *Env) {
	for _, test := range []struct {
		script string
		sig    syscall.Signal
		code   int
	}{
		{"trap 'echo got it; exit 7' TERM", syscall.SIGTERM, 7},
		{"trap 'echo got it; exit 8' USR1", syscall.SIGUSR1, 8},
		{"trap '' INT; trap 'echo got it; exit 9' HUP", syscall.SIGHUP, 9},
		{"", syscall.SIGINT, 130},
		{"", syscall.SIGTERM, 143},
	} {
		signals := make(chan syscall.Signal, 3)
		spec := e.Shell(test.script + "\necho ready; while true; do sleep 0.05; done")
		out := &prompt{want: "ready", then: func() {
			if test.sig == syscall.SIGHUP {
				signals <- syscall.SIGINT // is ignored
			}
			signals <- test.sig
		}}
		spec.Stdout, spec.Signals = out, signals
		exit, err := e.Sandbox.Run(t.Context(), spec)
		if err != nil || exit.Code != test.code || strings.Contains(out.String(), "got it") != (test.script != "") {
			t.Errorf("%q, %v: exit code %d, want %d, %v\n%s", test.script, test.sig, exit.Code, test.code, err, out)
		}
	}
}

// processes finds processes with a string in their command line.
func processes(t *testing.T, mark string) []string {
	t.Helper()
	var out []string
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(mark)) {
			out = append(out, f+": "+string(b))
		}
	}
	return out
}
