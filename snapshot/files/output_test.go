package files_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := files.WriteBytes(path, 0o644, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || string(b) != text {
		t.Errorf("%s holds %q, %v; want %q", path, b, err, text)
	}
	if fi, err := os.Lstat(path); err != nil || fi.Mode() != mode {
		t.Errorf("%s has mode %v, %v; want %v", path, fi.Mode(), err, mode)
	}
}

func TestWriteRegular(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	write(t, p, "one")
	wantFile(t, p, "one", 0o644)
	if err := os.Chmod(p, 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, p, "two")
	wantFile(t, p, "two", 0o600)
	boom := errors.New("boom")
	err := files.Write(p, 0o644, func(w io.Writer) error {
		io.WriteString(w, "half")
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	wantFile(t, p, "two", 0o600)
	if names, _ := os.ReadDir(filepath.Dir(p)); len(names) != 1 {
		t.Errorf("something is left: %v", names)
	}
}

func TestWriteKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners are changed")
	}
	p := filepath.Join(t.TempDir(), "f")
	write(t, p, "one")
	if err := os.Chown(p, 4321, 1234); err != nil {
		t.Fatal(err)
	}
	write(t, p, "two")
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil || st.Uid != 4321 || st.Gid != 1234 {
		t.Errorf("the owner is %d:%d, %v", st.Uid, st.Gid, err)
	}
}

func TestWriteFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "sub", "target")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Symlink("middle", link), os.Symlink("sub/target", filepath.Join(dir, "middle"))); err != nil {
		t.Fatal(err)
	}
	write(t, link, "made")
	wantFile(t, target, "made", 0o644)
	write(t, link, "again")
	wantFile(t, target, "again", 0o644)
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v now", fi.Mode(), err)
	}
	if err := files.Clear(link); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the target of a link is there after Clear: %v", err)
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	if err := files.WriteBytes(loop, 0o644, nil); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a loop of links gave %v", err)
	}
}

func TestWriteIntoOthers(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		b, _ := os.ReadFile(fifo)
		got <- string(b)
	}()
	write(t, fifo, "through")
	if s := <-got; s != "through" {
		t.Errorf("the fifo passed %q", s)
	}
	if err := files.Clear(fifo); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(fifo); err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the fifo is %v, %v now", fi, err)
	}
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err == nil {
		null := filepath.Join(dir, "null")
		write(t, null, "gone")
		if fi, err := os.Lstat(null); err != nil || fi.Mode()&os.ModeCharDevice == 0 {
			t.Errorf("the device is %v, %v now", fi, err)
		}
	}
}

// TestWriteOpenFile proves that a file that a process has open, as standard output may
// be, is written to and not replaced.
func TestWriteOpenFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("before "); err != nil {
		t.Fatal(err)
	}
	write(t, "/proc/self/fd/"+strconv.Itoa(int(f.Fd())), "after")
	if err := files.Clear("/dev/fd/" + strconv.Itoa(int(f.Fd()))); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Nlink != 1 {
		t.Errorf("the open file has %d names, %v", st.Nlink, err)
	}
	wantFile(t, f.Name(), "before after", 0o644)
}

// TestWriteMounted proves that a file that is a mount point is written to: it cannot be
// replaced.
func TestWriteMounted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	dir := t.TempDir()
	from, at := filepath.Join(dir, "from"), filepath.Join(dir, "at")
	write(t, from, "old and longer")
	write(t, at, "")
	if err := unix.Mount(from, at, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("needs mounts: %v", err)
	}
	defer unix.Unmount(at, unix.MNT_DETACH)
	write(t, at, "new")
	wantFile(t, from, "new", 0o644)
	if err := files.Clear(at); err != nil {
		t.Fatal(err)
	}
	wantFile(t, from, "", 0o644)
	if names, _ := os.ReadDir(dir); len(names) != 2 {
		t.Errorf("something is left: %v", names)
	}
}
