package snapshot_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/owner"
	"layered.build/builder/snapshot/snapshottest"
)

const lackingEnv = "BUILDER_TEST_LACKING"

// What root without the rights for it unpacks (devices, whiteouts, opaque marks, file
// capabilities), as in a container, is in the layer, and root with all rights mounts it
// as it is meant.
func TestLacking(t *testing.T) {
	if dir := os.Getenv(lackingEnv); dir != "" {
		writeLacking(t, dir)
		return
	}
	needRoot(t)
	if b, err := os.ReadFile("/proc/self/uid_map"); err != nil || strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295" {
		t.Skip("needs root's rights, to do without some")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(setpriv, "--bounding-set", "-mknod,-sys_admin,-setfcap", "--inh-caps", "-all", "/proc/self/exe", "-test.v", "-test.run=^TestLacking$")
	cmd.Path, cmd.Args[5] = setpriv, testProgram(t)
	cmd.Env = append(os.Environ(), lackingEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Fatalf("%v\n%s", err, out)
	}
	s := openStoreAt(t, dir)
	stack := lackingStack(t, s)
	a, err := s.Prepare(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Discard()
	snapshottest.InMount(t, a.Mount(), func(root string) {
		for path, rdev := range map[string]uint64{"/null": unix.Mkdev(1, 3), "/disk": unix.Mkdev(7, 9), "/null2": unix.Mkdev(1, 3), "/opaque/tty": unix.Mkdev(1, 3)} {
			var st unix.Stat_t
			if err := unix.Lstat(root+path, &st); err != nil || st.Rdev != rdev || st.Uid != 5 || st.Mode&0o777 != 0o640 {
				t.Errorf("%s: %v, mode %o, device %x, owner %d", path, err, st.Mode, st.Rdev, st.Uid)
			}
		}
		for _, path := range []string{"/gone", "/opaque/old"} {
			if _, err := os.Lstat(root + path); !os.IsNotExist(err) {
				t.Errorf("%s is there: %v", path, err)
			}
		}
		if fi, err := os.Lstat(root + "/opaque"); err != nil || !fi.ModTime().Equal(dirTime) {
			t.Errorf("the directory's time is %v, %v", fi.ModTime(), err)
		}
		var v [64]byte
		if n, err := unix.Lgetxattr(root+"/able", "security.capability", v[:]); err != nil || string(v[:n]) != capabilities {
			t.Errorf("capabilities %q, %v", v[:max(n, 0)], err)
		}
		if n, err := unix.Llistxattr(root+"/able", v[:]); err != nil || string(v[:n]) != "security.capability\x00" {
			t.Errorf("attributes %q, %v", v[:max(n, 0)], err)
		}
	})
}

// testProgram is this program, for one that executes it by name.
func testProgram(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// dirTime is that of a directory in which something is completed.
var dirTime = time.Unix(1e9, 0)

const capabilities = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// writeLacking writes the layers and checks what is told of them.
func writeLacking(t *testing.T, dir string) {
	if owner.MayAll(unix.CAP_MKNOD) || owner.MayAll(unix.CAP_SYS_ADMIN) || owner.MayAll(unix.CAP_SETFCAP) || owner.Emulated() {
		t.Fatal("this process has other rights")
	}
	s, err := snapshot.Open(dir, snapshot.Options{}) // directories, as those that are pulled have
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, want := describe(t, s, lackingStack(t, s)[1]), strings.Join([]string{
		"able 0 -rwxr-xr-x 0:0:0000 SCHILY.xattr.security.capability",
		"disk 4 Drw-r----- 5:6:00000:0:0000:char-7-9",
		".wh.gone 0 ---------- 0:0:0000",
		"null 3 Dcrw-r----- 5:6:00000:0:0000:char-1-3",
		"null2 1 -rw-r----- 5:6:0000",
		"opaque/ 5 drwxr-xr-x 0:0:0000",
		"opaque/.wh.old 0 ---------- 0:0:0000",
		"opaque/tty 3 Dcrw-r----- 5:6:00000:0:0000:char-1-3",
	}, "\n"); got != want {
		t.Errorf("the layer:\n%s\nwant\n%s", got, want)
	}
}

// lackingStack writes layers with all that takes rights; they are the same wherever
// they are written.
func lackingStack(t *testing.T, s *snapshot.Store) snapshot.Stack {
	t.Helper()
	file := snapshot.Entry{Type: snapshot.TypeFile, Mode: 0o755}
	named := func(e snapshot.Entry, path string) snapshot.Entry { e.Path = path; return e }
	able := named(file, "able")
	able.Xattrs = map[string]string{"security.capability": capabilities}
	device := snapshot.Entry{Type: snapshot.TypeChar, Mode: 0o640, UID: 5, GID: 6, DevMajor: 1, DevMinor: 3}
	disk := named(device, "disk")
	disk.Type, disk.DevMajor, disk.DevMinor = snapshot.TypeBlock, 7, 9
	link := named(device, "null2")
	link.Hardlink = "null"
	dir := snapshot.Entry{Path: "opaque", Type: snapshot.TypeDir, Mode: 0o755, ModTime: dirTime}
	opaque := dir
	opaque.Opaque = true
	var stack snapshot.Stack
	for _, changes := range [][]snapshot.Change{
		{{Entry: named(file, "gone")}, {Entry: dir}, {Entry: named(file, "opaque/old")}},
		{{Entry: able}, {Entry: disk}, {Entry: snapshot.Entry{Path: "gone", Type: snapshot.TypeWhiteout}}, {Entry: named(device, "null")}, {Entry: link}, {Entry: opaque}, {Entry: named(device, "opaque/tty")}},
	} {
		l, err := s.WriteLayer(t.Context(), stack, changes, snapshot.WriteOptions{Dir: true})
		if err != nil {
			t.Fatal(err)
		}
		stack = append(stack, l)
	}
	return stack
}
