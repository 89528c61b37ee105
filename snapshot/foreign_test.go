package snapshot_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

// TestForeignTars checks that tars of other programs are rebuilt bit for bit.
func TestForeignTars(t *testing.T) {
	snapshottest.NeedMount(t) // owners, devices
	src := t.TempDir()
	script := `cd "$1"; mkdir -p d/e; echo a >d/a; ln d/a d/e/hard; ln -s ../a d/e/sym; mkfifo p; mknod n c 1 3; mknod b b 7 1
n=$(printf 'n%.0s' $(seq 150)); mkdir -p $n/$n; echo long >$n/$n/$n; ln -s $n/$n/$n l; truncate -s 3M sparse; echo x >>sparse; truncate -s 20k small; echo y >>small
head -c 300000 /dev/urandom >big; chmod 4755 d/a; chown 5:6 big; touch -d '1960-01-01' old; touch -d '2001-01-01 1:2:3.456789' frac; echo ü >grüße
setfattr -n user.k -v v d/a || true; : >empty`
	if out, err := exec.Command("sh", "-c", script, "sh", src).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{
		{"tar", "--format=v7"}, {"tar", "--format=oldgnu"}, {"tar", "--format=gnu"}, {"tar", "--format=ustar"}, {"tar", "--format=posix", "--xattrs"},
		{"tar", "--format=gnu", "--sparse"}, {"tar", "--format=posix", "--sparse"}, {"tar", "--format=posix", "--sparse", "--sparse-version=0.0"},
		{"tar", "--format=posix", "--sparse", "--sparse-version=0.1"}, {"tar", "--format=gnu", "-b", "200"},
		{"bsdtar", "--format=ustar"}, {"bsdtar", "--format=pax", "--xattrs"}, {"bsdtar", "--format=gnutar"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err)
			}
			// Formats without long names leave some out and say so.
			data, _ := exec.Command(args[0], append(args[1:], "-cf", "-", "-C", src, ".")...).Output()
			if len(data) < 300000 {
				t.Fatalf("only %d bytes of tar", len(data))
			}
			s := openStore(t)
			l, err := s.Import(t.Context(), nil, snapshot.DiffID(digest.FromBytes(data)), bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if _, got := readTar(t, s, l); !bytes.Equal(got, data) {
				t.Fatal("another tar")
			}
			dir := filepath.Join(s.Root(), "layers", string(l.ID), "dir")
			diff := exec.Command("diff", "-r", "--no-dereference", "--exclude=n", "--exclude=b", "--exclude=p", "--exclude=nnn*", "--exclude=l", "--exclude=old", src, dir)
			if out, err := diff.CombinedOutput(); err != nil {
				t.Errorf("contents differ: %s", out)
			}
			var st unix.Stat_t
			if err := unix.Lstat(dir+"/sparse", &st); err != nil || (strings.Contains(t.Name(), "sparse") && st.Blocks*512 > 1<<20) {
				t.Errorf("sparse: %+v %v", st, err)
			}
		})
	}
}

// TestDuplicates: the last entry of a path wins, and the tar is rebuilt all the
// same.
func TestDuplicates(t *testing.T) {
	needRoot(t)
	data := makeTar(t,
		ent(tar.TypeReg, "f", "first"), ent(tar.TypeLink, "g", "f"), ent(tar.TypeReg, "f", "second"), ent(tar.TypeReg, "f", "third"),
		ent(tar.TypeDir, "d/", ""), ent(tar.TypeReg, "d/x", "lost"), ent(tar.TypeReg, "d/y/z", "lost too"), ent(tar.TypeReg, "d", "now a file"),
		ent(tar.TypeReg, "e", "file"), ent(tar.TypeDir, "e/", ""), ent(tar.TypeReg, "e/in", "in"), ent(tar.TypeSymlink, "s", "f"), ent(tar.TypeReg, "s", "no link"))
	s := openStore(t)
	l, err := s.Import(t.Context(), nil, "", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, got := readTar(t, s, l); !bytes.Equal(got, data) {
		t.Error("another tar")
	}
	tree, err := s.Tree(t.Context(), snapshot.Stack{l})
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"f": "third", "g": "first", "d": "now a file", "e/in": "in", "s": "no link"} {
		if got := readFile(t, tree, p); got != want {
			t.Errorf("%s: %q, want %q", p, got, want)
		}
	}
}

func TestHostileLayers(t *testing.T) {
	out := t.TempDir()
	for name, es := range map[string][]tarEntry{
		"dot dot":          {ent(tar.TypeReg, "../evil", "x")},
		"dot dot inside":   {ent(tar.TypeReg, "a/../../evil", "x")},
		"whiteout dot dot": {ent(tar.TypeReg, ".wh...", "")},
		"link out":         {ent(tar.TypeLink, "l", "../../etc/passwd")},
		"link to nothing":  {ent(tar.TypeLink, "l", "nothing")},
		"link to dir":      {ent(tar.TypeDir, "d/", ""), ent(tar.TypeLink, "l", "d")},
		"below a file":     {ent(tar.TypeReg, "f", "x"), ent(tar.TypeReg, "f/x", "y")},
		"symlink loop":     {ent(tar.TypeSymlink, "a", "b"), ent(tar.TypeSymlink, "b", "a"), ent(tar.TypeReg, "a/x", "y")},
		"root a file":      {ent(tar.TypeReg, ".", "x")},
	} {
		s := openStore(t)
		_, err := s.Import(t.Context(), nil, "", bytes.NewReader(makeTar(t, es...)))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		t.Logf("%s: %v", name, err)
	}
	needRoot(t) // what follows is unpacked whole
	// Symlinks that lead out are harmless: they are resolved inside the layer.
	s := openStore(t)
	marks := ent(tar.TypeDir, "m/", "")
	marks.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.redirect": "/x"}
	l, err := s.Import(t.Context(), nil, "", bytes.NewReader(makeTar(t,
		ent(tar.TypeSymlink, "s", out), ent(tar.TypeReg, "s/evil", "x"), ent(tar.TypeSymlink, "up", "../../../.."), ent(tar.TypeReg, "up/evil2", "x"), marks)))
	if err != nil {
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(out); len(names) > 0 {
		t.Errorf("written outside: %v", names)
	}
	dir := filepath.Join(s.Root(), "layers", string(l.ID), "dir")
	for _, p := range []string{filepath.Join(dir, out, "evil"), filepath.Join(dir, "evil2")} {
		if _, err := os.Lstat(p); err != nil {
			t.Error(err)
		}
	}
	var v [8]byte
	for _, k := range []string{"trusted.overlay.opaque", "user.overlay.redirect"} {
		if _, err := unix.Lgetxattr(dir+"/m", k, v[:]); err == nil {
			t.Errorf("a tar could set %s", k)
		}
	}
}
