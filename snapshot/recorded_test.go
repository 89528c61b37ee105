package snapshot_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/folder"
	"layered.build/builder/snapshot/owner"
	"layered.build/builder/snapshot/snapshottest"
)

const singleIDEnv = "BUILDER_TEST_SINGLE_ID"

// inSingleID runs the calling test again, in a user namespace with one id; it
// reports whether this is that process.
func inSingleID(t *testing.T, run string) bool {
	if os.Getenv(singleIDEnv) != "" {
		if !owner.Emulated() {
			t.Fatal("owners are not recorded in a user namespace with one id")
		}
		return true
	}
	needRoot(t)
	if owner.Emulated() {
		return true
	}
	one := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd := fixtures.Again("-test.v", "-test.run="+run)
	cmd.Env = append(os.Environ(), singleIDEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: one, GidMappings: one}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("\n--- PASS")) && !bytes.HasPrefix(out, []byte("--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// All that holds for layers holds where owners are recorded.
func TestRecordedSuite(t *testing.T) {
	if inSingleID(t, "^TestRecordedSuite$") {
		snapshottest.Run(t, func(t testing.TB) *snapshot.Store { return openStore(t) })
	}
}

func recordedTar(t *testing.T) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 101, Gid: 104},
		{Name: "dir/file", Typeflag: tar.TypeReg, Mode: 0o400, Uid: 0, Gid: 42, Size: 4},
		{Name: "dir/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		{Name: "dir/disk", Typeflag: tar.TypeBlock, Mode: 0o660, Gid: 6, Devmajor: 7, Devminor: 9},
		{Name: "dir/link", Typeflag: tar.TypeSymlink, Linkname: "file", Uid: 9, Gid: 9},
		{Name: "dir/forged", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr." + owner.Xattr: "7:7:0644:file"}},
		{Name: "own", Typeflag: tar.TypeReg, Mode: 0o644},
	} {
		h.ModTime = time.Unix(1000, 0)
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("text")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// describe lists a layer's entries: path, type, mode, owner, device.
func describe(t *testing.T, s *snapshot.Store, l snapshot.Layer) string {
	t.Helper()
	r, err := s.Tar(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return describeTar(t, r)
}

func describeTar(t *testing.T, r io.Reader) string {
	t.Helper()
	var out []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, "\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		line := strings.Join([]string{h.Name, string(h.Typeflag), h.FileInfo().Mode().String()}, " ")
		line += " " + owner.Stat{UID: uint32(h.Uid), GID: uint32(h.Gid)}.String()
		if h.Devmajor+h.Devminor > 0 {
			line += owner.Stat{Mode: unix.S_IFCHR, Dev: unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))}.String()
		}
		for k := range h.PAXRecords {
			line += " " + k
		}
		out = append(out, line)
	}
}

// A layer of foreign owners and devices is stored, changed and given out by a
// process that can neither chown nor mknod.
func TestRecordedOwners(t *testing.T) {
	if !inSingleID(t, "^TestRecordedOwners$") {
		return
	}
	s := openStore(t)
	base, err := s.WriteLayer(t.Context(), nil, []snapshot.Change{
		{Entry: snapshot.Entry{Path: "a", Type: snapshot.TypeDir, Mode: 0o700, UID: 101, GID: 104}},
		{Entry: snapshot.Entry{Path: "a/null", Type: snapshot.TypeChar, Mode: 0o666, DevMajor: 1, DevMinor: 3}},
		{Entry: snapshot.Entry{Path: "a/shadow", Type: snapshot.TypeFile, Mode: 0o040, GID: 42}},
		{Entry: snapshot.Entry{Path: "b", Type: snapshot.TypeFile, Mode: 0o644}},
	}, snapshot.WriteOptions{Dir: true})
	if err != nil {
		t.Fatal(err)
	}
	on := snapshot.Stack{base}
	change := func(fn func(root string)) string {
		t.Helper()
		a, err := s.Prepare(t.Context(), on)
		if err != nil {
			t.Fatal(err)
		}
		snapshottest.InMount(t, a.Mount(), fn)
		l, err := a.Commit(t.Context(), snapshot.CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return describe(t, s, l)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	if got := change(func(r string) {
		check(unix.Chmod(r+"/a/shadow", 0o040)) // copied up, not changed
		check(owner.Lchown(r+"/a/null", 0, 0))
	}); got != "" {
		t.Errorf("unchanged objects are in the layer:\n%s", got)
	}
	if got, want := change(func(r string) {
		check(owner.Lchown(r+"/b", 7, 8))
		check(os.WriteFile(r+"/a/new", nil, 0o600))
		check(owner.Lchown(r+"/a/shadow", 0, 0))
		check(os.Rename(r+"/a/null", r+"/a/zero"))
	}), strings.Join([]string{
		"a/ 5 drwx------ 101:104:0000",
		"a/new 0 -rw------- 0:0:0000",
		"a/.wh.null 0 ---------- 0:0:0000",
		"a/shadow 0 ----r----- 0:0:0000",
		"a/zero 3 Dcrw-rw-rw- 0:0:00000:0:0000:char-1-3",
		"b 0 -rw-r--r-- 7:8:0000",
	}, "\n"); got != want {
		t.Errorf("layer:\n%s\nwant\n%s", got, want)
	}
}

// Whoever cannot understand a store's owners does not use it.
func TestOtherOwners(t *testing.T) {
	if !inSingleID(t, "^TestOtherOwners$") {
		return
	}
	root := t.TempDir()
	open := func() error {
		s, err := snapshot.Open(root, snapshot.Options{})
		if err == nil {
			err = s.Close()
		}
		return err
	}
	if err := errors.Join(open(), open()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(root + "/owners"); err != nil { // as if root had made it
		t.Fatal(err)
	}
	if err := open(); !errors.Is(err, folder.ErrOwners) {
		t.Errorf("error %v", err)
	}
}

// A pulled tar is rebuilt bit for bit.
func TestRecordedTar(t *testing.T) {
	if !inSingleID(t, "^TestRecordedTar$") {
		return
	}
	data := recordedTar(t)
	s := openStore(t)
	l, err := s.Import(t.Context(), nil, snapshot.DiffID(digest.FromBytes(data)), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Tar(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	again, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("the tar is not rebuilt: %v", err)
	}
	r.Close()
}
