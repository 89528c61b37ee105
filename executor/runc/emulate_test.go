package runc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot/owner"
)

const (
	isolationEnv = "BUILDER_TEST_ISOLATION"
	stressEnv    = "BUILDER_TEST_STRESS"
)

// TestSingleID runs the tests of the sandbox, and those of what is emulated, as an
// ordinary user in a user namespace with one id.
func TestSingleID(t *testing.T) {
	t.Parallel()
	if owner.Emulated() {
		t.Skip("all tests run in such a user namespace here")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become a user who has no further ids")
	}
	if rootless.InUserNamespace() {
		t.Skip("needs root outside of user namespaces, to open the way to temporary folders")
	}
	const nobody = 65534
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "stress"), "./testdata/stress")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for p := dir; p != "/" && p != os.TempDir(); p = filepath.Dir(p) {
		if err := os.Chmod(p, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tmp := filepath.Join(dir, "tmp")
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Chown(tmp, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	cmd := fixtures.Again("-test.v", "-test.timeout=60m", "-test.run=^(TestConformance|TestEmulat.*|TestKilledBuilder)$")
	cmd.Env = append(os.Environ(), isolationEnv+"=single", "TMPDIR="+tmp, "HOME="+tmp, stressEnv+"="+filepath.Join(dir, "stress"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestEmulation")) || !bytes.Contains(out, []byte("--- PASS: TestConformance")) {
		t.Errorf("%v\n%s", err, out)
	}
}

func needEmulation(t *testing.T) {
	t.Helper()
	if !owner.Emulated() {
		t.Skip("needs a user namespace with one id (TestSingleID makes one)")
	}
}

// TestEmulation asks processes what they see, line by line.
func TestEmulation(t *testing.T) {
	needEmulation(t)
	e := sandboxtest.NewEnv(t, newSandbox(t))
	for _, c := range []struct{ name, script, want string }{
		{"chown", "touch f; chown 5:6 f; stat -c %u:%g f; chown :7 f; stat -c %u:%g f; chown 0:0 f; stat -c %u:%g f", "5:6\n5:7\n0:0"},
		{"chown of directories", "mkdir -p d/e; chown -R 5:6 d; stat -c %u:%g d d/e; cd d; chown 8 .; stat -c %u:%g . ../d", "5:6\n5:6\n8:6\n8:6"},
		{"chown of an open file", "touch f; chown 5 /proc/self/fd/3 3<>f; stat -c %u f; chown 6 /dev/fd/3 3<>f; stat -c %u f; stat -L -c %u /proc/self/fd/3 3<>f", "5\n6\n6"},
		{"symlinks", "touch f; ln -s f l; chown 5 l; chown -h 6:7 l; stat -c %u:%g f l; stat -L -c %u l; mv l m; stat -c %u:%g m; chown -h :8 m; stat -c %u:%g m; chown -h 0:0 m; stat -c %u:%g m",
			"5:0\n6:7\n5\n6:7\n6:8\n0:0"},
		{"symlinks and fifos of other users", "su app -c 'ln -s t l; mkfifo p; readlink l'; stat -c '%u:%g %F' l p; rm l p; ln -s t l; mkfifo p; stat -c %u l p", "t\n1000:1000 symbolic link\n1000:1000 fifo\n0\n0"},
		{"set-user-ID bits", "touch f; chmod 4755 f; chown 5 f; stat -c %a:%u f; chmod 4755 f; stat -c %a:%u f", "755:5\n4755:5"},
		{"modes", "touch f; chown 5 f; chmod 400 f; stat -c %a:%u f; chmod 0 f; stat -c %a:%u f; echo x >f; cat f", "400:5\n0:5\nx"},
		{"hard links and renames", "touch f; chown 5 f; ln f g; mv f h; stat -c %u g h", "5\n5"},
		{"devices", "mknod n c 1 3; stat -c '%F %t:%T %a' n; mknod b b 7 9; stat -c '%F %t:%T' b; chown 0:6 b; stat -c '%F %g' b; mv b c; stat -c %F c",
			"character special file 1:3 644\nblock special file 7:9\nblock special file 6\nblock special file"},
		{"devices 0:0", "mknod w c 0 0 || echo refused; ls | wc -l", "refused\n0"},
		{"fifos", "mkfifo p; chown 5:6 p; stat -c '%F %u:%g' p", "fifo 5:6"},
		{"copies", "touch f; chown 5:6 f; mknod n c 1 3; mkdir d; cp -a f n d; stat -c '%u:%g %F' d/*", "5:6 regular empty file\n0:0 character special file"},
		{"archives", "mkdir a; touch a/f; chown -R 5:6 a; tar cf x.tar a; rm -r a; tar xf x.tar; stat -c %u:%g a a/f", "5:6\n5:6"},
		{"identity", "su app -c 'id -u; id -g; id -G; sh -c \"id -u\"'; id -u", "1000\n1000\n1000 2000\n1000\n0"},
		{"orphans", "su app -c '(sleep 0.2; id -u >/tmp/p; mv /tmp/p /tmp/o) & exit'; id -u; until [ -e /tmp/o ]; do sleep 0.1; done; cat /tmp/o; stat -c %u /tmp/o", "0\n1000\n1000"},
		{"files of other users", "su app -c 'umask 027; echo x >n; mkdir m; cat n; : >n; mkdir -p m/o; touch m/o/p'; stat -c '%u:%g:%a' n m m/o m/o/p",
			"x\n1000:1000:640\n1000:1000:750\n1000:1000:750\n1000:1000:640"},
		{"what exists stays", "echo x >n; su app -c 'echo y >>n; cat n'; stat -c %u n", "x\ny\n0"},
		{"new files only once", "su app -c 'set -C; echo 1 >n; echo 2 >n || echo exists'; cat n", "exists\n1"},
		{"new files behind links", "ln -s t l; su app -c 'echo 1 >l'; cat t; stat -c %u t", "1\n1000"},
		{"the foreign", "touch f; su app -c 'chown 1000 f || echo refused; touch g; chown 0 g || echo refused; chown :2000 g && stat -c %u:%g g; mknod n c 1 3 || echo refused'",
			"refused\nrefused\n1000:2000\nrefused"},
		{"directories of a group", "mkdir d; chown 0:50 d; chmod 2775 d; touch d/f; mkdir d/e; stat -c '%u:%g:%a' d/f d/e; su app -c 'touch d/g'; stat -c %u:%g d/g", "0:50:644\n0:50:2755\n1000:50"},
		{"roots of their own", "mkdir -p r/bin r/tmp; cp /bin/busybox r/bin; ln -s /tmp r/l; touch r/tmp/f; chroot r /bin/busybox sh -c '/bin/busybox chown 5 /tmp/f; /bin/busybox chown 6 /l; /bin/busybox stat -c %u /tmp/f /tmp'; stat -c %u r/tmp/f r/tmp /tmp",
			"5\n6\n5\n6\n0"},
		{"deep paths", "a=$(printf %0200d 0); p=.; i=0; while [ $i -lt 19 ]; do p=$p/$a; i=$((i+1)); done; mkdir -p $p; touch $p/f; chown 5 $p/f; stat -c %u $p/f", "5"},
		{"standard output", "chown 5 /dev/stdout; echo $?", "0"},
		{"what is not there", "chown 5 /none/x 2>/dev/null; echo $?; chown 5 f/g 2>/dev/null; echo $?", "1\n1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := e.Shell("exec 2>/dev/null; rm -rf /tmp/x; mkdir /tmp/x; cd /tmp/x; chmod 777 .; " + c.script)
			if got := e.Must(t, spec); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// A process that begins as an ordinary user owns what it makes, from its working
// directory on.
func TestEmulatedUser(t *testing.T) {
	needEmulation(t)
	e := sandboxtest.NewEnv(t, newSandbox(t))
	spec := e.Shell("id -u; id -G; pwd; echo x >f; mkdir d; stat -c %u:%g . .. f d; echo $HOME")
	spec.Cwd, spec.User = "/new/dir", sandbox.User{UID: 1000, GID: 1000, Groups: []uint32{1000, 2000}}
	const want = "1000\n1000 2000\n/new/dir\n1000:1000\n1000:1000\n1000:1000\n1000:1000\n/home/app"
	if got := e.Must(t, spec); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Nothing can be led out of the container, nor does it see the supervisor.
func TestEmulatedEscapes(t *testing.T) {
	needEmulation(t)
	e := sandboxtest.NewEnv(t, newSandbox(t))
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 40)
	script := "mkdir /tmp/x; cd /tmp/x; for p in " + outside + " " + up + outside + " /proc/1/root" + outside + "; do chown 5 $p; su app -c \"echo x >$p\"; mknod $p c 1 3; ln -s $p l; chown 5 l; rm l; done; true"
	if r := e.Run(t, e.Shell(script)); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	b, err := os.ReadFile(outside)
	if _, recorded, rerr := owner.Read(outside); err != nil || rerr != nil || recorded || len(b) > 0 {
		t.Errorf("a file outside was changed: %q, %v %v", b, err, rerr)
	}
}

// stressSpec is a shell script that finds the program of testdata/stress.
func stressSpec(t *testing.T, e *sandboxtest.Env, script string) *sandbox.Spec {
	t.Helper()
	program := os.Getenv(stressEnv)
	if program == "" {
		t.Skip("needs the program of testdata/stress, which TestSingleID builds")
	}
	spec := e.Shell(script)
	spec.Mounts = []sandbox.Mount{{Dest: "/stress", HostPath: program, ReadOnly: true}}
	return spec
}

// Programs with set-user-ID bits give what their owner is meant to have, and scripts
// nothing.
func TestEmulatedExec(t *testing.T) {
	needEmulation(t)
	e := sandboxtest.NewEnv(t, newSandbox(t))
	spec := stressSpec(t, e, `cd /tmp; cp /stress s; chmod 4755 s
		su app -c './s ids'; chown 7:8 s; chmod 6755 s; ./s ids; su app -c './s ids; /stress ids'
		printf '#!/tmp/s ids\n' >script; chmod 4755 script; chmod 755 s; su app -c ./script`)
	const want = "1000/0/0 1000/1000/1000\n0/7/7 0/8/8\n1000/7/7 1000/8/8\n1000/1000/1000 1000/1000/1000\n1000/1000/1000 1000/1000/1000"
	if got := e.Must(t, spec); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Threads and signals do not confuse who asked what.
func TestEmulationUnderStress(t *testing.T) {
	needEmulation(t)
	e := sandboxtest.NewEnv(t, newSandbox(t))
	spec := stressSpec(t, e, "/stress & /stress & su app -c 'while :; do touch /tmp/x; rm /tmp/x; done' & wait %1 %2")
	if got := e.Must(t, spec); got != "ok\nok" {
		t.Errorf("got %q", got)
	}
}

// Processes that are killed amid a call leave nothing that waits.
func TestEmulationCancel(t *testing.T) {
	needEmulation(t)
	e := sandboxtest.NewEnv(t, newSandbox(t))
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		spec := e.Shell("for i in 1 2 3 4; do while :; do chown 5 /etc/group; stat /etc/group >/dev/null; done & done; wait")
		start := time.Now()
		_, err := e.Sandbox.Run(ctx, spec)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if d := time.Since(start); d > fixtures.Patience {
			t.Errorf("it took %v", d)
		}
	}
}
