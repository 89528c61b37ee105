package chroot

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sandbox/sandboxtest"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// plainEnv is a root file system of busybox as a directory.
func plainEnv(t testing.TB) *sandboxtest.Env {
	t.Helper()
	return sandboxtest.NewEnv(t, newSandbox(t))
}

func shell(e *sandboxtest.Env, script string) *sandbox.Spec {
	spec := e.Shell(script)
	spec.Root = snapshot.Mount{Upper: e.Lower}
	return spec
}

// Whatever a step does to names, what lies outside its root is not reached.
func TestHostile(t *testing.T) {
	e := plainEnv(t)
	out := t.TempDir()
	secret := filepath.Join(out, "secret")
	if err := os.WriteFile(secret, []byte("treasure"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	for name, script := range map[string]string{
		"absolute":          "cat $S",
		"dots":              "cat " + up + "$S; cd /; cat .." + "$S",
		"dots of a cwd":     "mkdir -p /a/b; cd /a/b; rmdir /a/b; cat " + up + "$S",
		"symlink":           "ln -s $S /l; cat /l; ln -s " + up + "$S /m; cat /m",
		"symlink directory": "ln -s / /r; cat /r/$S; ln -s " + up + " /q; cat /q/$S",
		"root of init":      "cat /proc/1/root$S",
		"root of itself":    "cat /proc/self/root$S; cat /proc/thread-self/root$S; cat /proc/$$/task/$$/root$S",
		"root of builder":   "cat /proc/$PPID/root$S; cat /proc/$PPID/cwd/../../../../..$S",
		"its cwd":           "cat /proc/self/cwd/" + up + "$S",
		"its files":         "exec 9</; cat /proc/self/fd/9/" + up + "$S; cat /dev/fd/9/" + up + "$S",
		"hard link":         "ln $S /h; cat /h",
		"rename":            "mv $S /h; cat /h",
		"copy of a link":    "ln -s $S /k; cp -L /k /kk; cat /kk",
		"bind mount":        "mkdir /mnt; mount --bind / /mnt; cat /mnt$S",
		"new root":          "mkdir /n; chroot /n cat $S; chroot / cat $S",
		"chroot twice":      "mkdir -p /x/y; chroot /x sh -c 'cd ..; cat ./$S'",
		"unshare":           "unshare -m -r cat $S; unshare -m cat $S",
		"setns":             "nsenter -t 1 -m cat $S",
		"environment":       "tr '\\0' '\\n' < /proc/$PPID/environ; tr '\\0' '\\n' < /proc/1/environ",
		"memory":            "cat /proc/$PPID/maps; cat /proc/1/maps",
		"program of others": "ls -l /proc/$PPID/exe; cat /proc/$PPID/exe | head -c 4",
		"exe":               "/proc/self/exe cat $S",
		"removal":           "rm -f $S; rm -rf " + filepath.Dir(secret),
		"truncation":        "echo > $S",
		"owner":             "chown 5 $S; chmod 000 $S; touch $S",
		"attribute":         "setfattr -n user.x -v y $S",
		"device":            "mknod /sda b 8 0; head -c 9 /sda; cat /dev/mem; cat /dev/sda",
		"kernel settings":   "echo 1 > /proc/sys/kernel/panic && echo treasure; echo h > /proc/sysrq-trigger && echo treasure",
		"host name":         "hostname treasure && hostname",
		"loop":              "ln -s /lo /lo; cat /lo; ln -s lp/x /lp; cat /lp",
		"interpreter":       "printf '#!%s\\n' $S > /i; chmod +x /i; /i; printf '#!/bin/cat\\n' > /c; chmod +x /c; /c $S",
		"socket":            "nc local:$S < /dev/null",
	} {
		t.Run(name, func(t *testing.T) {
			spec := shell(e, "S="+secret+"; export S; "+script)
			r := e.Run(t, spec)
			if strings.Contains(r.Out+r.Err, "treasure") && name != "host name" || strings.Contains(r.Out, "ELF") {
				t.Errorf("got out: %q %q", r.Out, r.Err)
			}
			if name == "host name" && r.Code == 0 {
				t.Error("the host's name was changed")
			}
			if b, err := os.ReadFile(secret); err != nil || string(b) != "treasure" {
				t.Fatalf("the file outside is %q, %v", b, err)
			}
		})
	}
	if fi, err := os.Stat(secret); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("the file outside: %v, %v", fi, err)
	}
}

// Processes of others get no signals, and all of the step's are gone afterwards.
func TestSignals(t *testing.T) {
	e := plainEnv(t)
	other := exec.Command("sleep", "100")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	r := e.Run(t, shell(e, fmt.Sprintf("kill -9 %d; kill -0 $PPID; kill -0 1; sleep 100 & kill $! && echo own", other.Process.Pid)))
	if r.Out != "own\n" || strings.Count(r.Err, "No such process") != 3 {
		t.Errorf("%+v", r)
	}
}

func TestOffline(t *testing.T) {
	e := plainEnv(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "reached")
			c.Close()
		}
	}()
	script := fmt.Sprintf("nc 127.0.0.1 %d </dev/null", l.Addr().(*net.TCPAddr).Port)
	if r := e.Run(t, shell(e, script)); r.Code == 0 || strings.Contains(r.Out, "reached") {
		t.Errorf("without network: %+v", r)
	}
	spec := shell(e, script)
	spec.Network = dag.NetDefault
	if got := e.Must(t, spec); got != "reached" {
		t.Errorf("with network: %q", got)
	}
}

// Ids, owners, modes and devices are what the step made them, whatever this process
// may do: the supervisor has no capabilities.
func TestEmulation(t *testing.T) {
	e := plainEnv(t)
	for script, want := range map[string]string{
		"touch f; chown 5:6 f; stat -c %u:%g f; chown :9 f; stat -c %u:%g f; chown 0:0 f; stat -c %u:%g f":                     "5:6\n5:9\n0:0",
		"touch f; chmod 000 f; echo x > f; cat f; stat -c %a f; chmod 600 f; stat -c %a f":                                     "x\n0\n600",
		"mkdir -m 000 d; touch d/f; ls d; stat -c %a d; chmod 555 d; touch d/g; stat -c %a d; chmod 700 d; stat -c %a d":       "f\n0\n555\n700",
		"mkdir d; chown 0:7 d; chmod 2755 d; mkdir d/e; touch d/f; stat -c '%a %g' d/e; stat -c '%a %g' d/f":                   "2755 7\n644 7",
		"touch f; chmod 6755 f; chown 1:1 f; stat -c %a f; chmod 4711 f; stat -c '%a %u' f":                                    "755\n4711 1",
		"umask 077; touch f; mkdir d; stat -c %a f d":                                                                          "600\n700",
		"mknod n c 1 3; stat -c '%F %t:%T' n; mknod b b 8 1; stat -c '%F %t:%T' b; mkfifo p; stat -c %F p":                     "character special file 1:3\nblock special file 8:1\nfifo",
		"id -u; id -g; cp /bin/busybox su; chmod 4755 su; stat -c %a su":                                                       "0\n0\n4755",
		"ln -s nowhere l; readlink l; ln f1 f2 2>/dev/null || echo none; echo 1 > f1; ln f1 f2; stat -c %h f2; rm f1; cat f2":  "nowhere\nnone\n2\n1",
		"mkdir -p a/b; mv a c; ls -d c/b; cd c; pwd; cd b; pwd; rmdir ../b; rmdir /w/c && echo gone":                           "c/b\n/w/c\n/w/c/b\ngone",
		"echo '#!/bin/sh\necho $0 $1 $2' > s; chmod +x s; ./s 1 2; sh -c 'exec ./s a'; echo '#!/w/s x' > t; chmod +x t; ./t y": "./s 1 2\n./s a\n/w/s x ./t",
		"readlink /proc/self/exe; readlink /proc/self/cwd; readlink /proc/self/root; cat /proc/self/comm":                      "/bin/busybox\n/w\n/\ncat",
		"mkdir -p j/bin; cp /bin/busybox j/bin; echo in > j/f; chroot j /bin/busybox cat /f; chroot j /bin/busybox pwd":        "in\n/",
		"touch -d @1000000000 f; stat -c %Y f; touch -h f; truncate -s 10 f; stat -c %s f":                                     "1000000000\n10",
		"uname -n; hostname": "buildkitsandbox\nbuildkitsandbox",
	} {
		r := e.Run(t, shell(e, "rm -rf /w; mkdir /w; cd /w; "+script))
		if strings.TrimSpace(r.Out) != want {
			t.Errorf("%s:\n%q\nwant %q\n%s", script, strings.TrimSpace(r.Out), want, r.Err)
		}
	}
	spec := shell(e, "id -u; touch /tmp/mine; stat -c %u:%g /tmp/mine; chown 0 /tmp/mine 2>&1 | grep -c permitted; chmod 700 /etc 2>&1 | grep -c permitted")
	spec.User = sandbox.User{UID: 1000, GID: 1001}
	if got := e.Must(t, spec); got != "1000\n1000:1001\n1\n1" {
		t.Errorf("a user: %q", got)
	}
}

// A program with a set-user-ID bit gives what its owner is meant to have, whichever
// thread executes it.
func TestSetUserID(t *testing.T) {
	e := plainEnv(t)
	program := filepath.Join(t.TempDir(), "threadexec")
	build := exec.Command("go", "build", "-o", program, "./testdata/threadexec")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	spec := shell(e, "cp /threadexec /tmp/p; chown 7 /tmp/p; chmod 4755 /tmp/p; /tmp/p; /threadexec /tmp/p; /threadexec /threadexec")
	spec.Mounts = []sandbox.Mount{{Dest: "/threadexec", HostPath: program, ReadOnly: true}}
	if got := e.Must(t, spec); got != "7\n7\n0" {
		t.Errorf("got %q", got)
	}
}

// Programs that are linked dynamically find the loader and the libraries of the root.
func TestDynamic(t *testing.T) {
	e := plainEnv(t)
	spec := shell(e, "/usr/bin/env true && /usr/bin/readlink /proc/self/exe; /usr/bin/perl -e 'print \"$^X\\n\"'; cat /proc/self/comm")
	for _, d := range []string{"/usr", "/lib", "/lib64"} {
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Dest: d, HostPath: d, ReadOnly: true})
	}
	if got := e.Must(t, spec); got != "/usr/bin/readlink\n/usr/bin/perl\ncat" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkTrue(b *testing.B) {
	e := plainEnv(b)
	for b.Loop() {
		spec := e.Spec("/bin/true")
		spec.Root = snapshot.Mount{Upper: e.Lower}
		if exit, err := e.Sandbox.Run(b.Context(), spec); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}
