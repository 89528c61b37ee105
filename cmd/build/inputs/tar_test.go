package inputs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/source"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/tree"
)

// specialTar is an archive of what a file system need not be able to hold.
func specialTar(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o555, Uid: 2},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 3},
		{Name: "d/none", Typeflag: tar.TypeReg, Mode: 0},
		{Name: "d/g", Typeflag: tar.TypeLink, Linkname: "d/f", Mode: 0o640, Gid: 4},
		{Name: "d/p", Typeflag: tar.TypeFifo, Mode: 0o622},
		{Name: "d/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "d/null2", Typeflag: tar.TypeLink, Linkname: "d/null", Mode: 0o600, Uid: 5},
		{Name: "d/loop", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 7, Devminor: 1},
		{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../../d"},
		{Name: "l/through", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "was/", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9},
		{Name: "was/x", Typeflag: tar.TypeReg, Mode: 0o600, Uid: 9},
		{Name: "was", Typeflag: tar.TypeReg, Mode: 0o600},
		{Name: "was", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "was/x", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		h.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestTarContextSpecial: whatever the process can make, a build sees what an archive says.
func TestTarContextSpecial(t *testing.T) {
	const want = `d 555 2:0
d/f 640 0:4
d/g 640 0:4
d/loop b 660 0:0 7,1
d/none 0 0:0
d/null c 600 5:0 1,3
d/null2 c 600 5:0 1,3
d/p p 622 0:0
d/through 644 0:0
l l 777 0:0 -> ../../d
was 755 0:0
was/x 644 0:0
`
	for name, prepare := range map[string]func() error{
		"as it is":        func() error { return nil },
		"without devices": dropMknod,
	} {
		t.Run(name, func(t *testing.T) {
			dir, data := t.TempDir(), specialTar(t)
			var u *unpacked
			errs := make(chan error, 1)
			go func() {
				runtime.LockOSThread() // ends with the goroutine, and what it dropped with it
				err := prepare()
				if err == nil {
					u, err = unpackContext(t.Context(), dir, bytes.NewReader(data))
				}
				errs <- err
			}()
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
			if got := shown(t, dir, u.given); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if fi, err := os.Lstat(filepath.Join(dir, "d/null")); err != nil || name == "without devices" && !fi.Mode().IsRegular() {
				t.Errorf("what stands for the device is %v, %v", fi, err)
			}
			for _, p := range []string{"d", "d/f", "d/p", "d/null", "l"} {
				if fi, err := os.Lstat(filepath.Join(dir, p)); err != nil || fi.ModTime().Unix() != 1e9 {
					t.Errorf("%s: %v, %v", p, fi, err)
				}
			}
		})
	}
}

// dropMknod gives the right to make devices up, in this thread.
func dropMknod() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_MKNOD
	return unix.Capset(&head, &data[0])
}

// shown lists what a build sees of a context.
func shown(t *testing.T, dir string, given map[string]*source.Given) string {
	t.Helper()
	c := &source.Contexts{Dirs: map[string]string{"x": dir}, Given: map[string]map[string]*source.Given{"x": given}}
	defer c.Close()
	from, err := c.Tree(t.Context(), &dag.LocalSource{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	err = tree.Walk(from, ".", func(e *snapshot.Entry) error {
		if e.Path == "." {
			return nil
		}
		b.WriteString(e.Path)
		if e.Type != snapshot.TypeFile && e.Type != snapshot.TypeDir {
			fmt.Fprintf(&b, " %c", e.Type)
		}
		fmt.Fprintf(&b, " %o %d:%d", e.Mode, e.UID, e.GID)
		if e.DevMajor != 0 {
			fmt.Fprintf(&b, " %d,%d", e.DevMajor, e.DevMinor)
		}
		if e.Linkname != "" {
			b.WriteString(" -> " + e.Linkname)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
