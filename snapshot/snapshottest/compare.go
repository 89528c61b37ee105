package snapshottest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/owner"
)

// Compare checks that the mounted stack and its Tree say the same, that every tar
// has its layer's digest, and that the layers' directories hold what their
// manifests say.
func Compare(t testing.TB, s *snapshot.Store, stack snapshot.Stack) {
	t.Helper()
	mounted, merged := list(t, s, stack), listTree(t, s, stack)
	if mounted != merged {
		t.Errorf("mount and tree differ:\n%s", firstDifference(mounted, merged))
	}
	for _, l := range stack {
		r, err := s.Tar(t.Context(), l)
		must(t, err)
		n, err := io.Copy(io.Discard, r)
		must(t, err, r.Close())
		if n != l.Size {
			t.Errorf("tar has %d bytes, layer says %d", n, l.Size)
		}
		if err := s.Check(t.Context(), l.ID, false); err != nil {
			t.Error(err)
		}
	}
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range as {
		if i >= len(bs) || as[i] != bs[i] {
			return strings.Join(as[max(0, i-1):min(len(as), i+2)], "\n") + "\n--- but ---\n" + strings.Join(bs[max(0, min(len(bs)-1, i-1)):min(len(bs), i+2)], "\n")
		}
	}
	return "the second has more: " + strings.Join(bs[len(as):], "\n")
}

// list describes a mounted stack, one object a line.
func list(t testing.TB, s *snapshot.Store, stack snapshot.Stack) string {
	t.Helper()
	m, err := s.View(t.Context(), stack)
	must(t, err)
	var out strings.Builder
	InMount(t, m, func(root string) {
		err := filepath.WalkDir(root, func(p string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(root, p)
			if rel != "." {
				describeFile(t, &out, p, rel)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	return out.String()
}

func describeFile(t testing.TB, out io.Writer, p, rel string) {
	var st unix.Stat_t
	must(t, unix.Lstat(p, &st))
	recorded(t, p, &st)
	e := snapshot.Entry{Path: rel, Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Xattrs: map[string]string{}}
	content := ""
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Type = snapshot.TypeFile
		b, err := os.ReadFile(p)
		must(t, err)
		content = string(digest.FromBytes(b))
	case unix.S_IFDIR:
		e.Type = snapshot.TypeDir
	case unix.S_IFLNK:
		e.Type = snapshot.TypeSymlink
		l, err := os.Readlink(p)
		must(t, err)
		content = l
	case unix.S_IFCHR:
		e.Type = snapshot.TypeChar
		content = fmt.Sprint(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFBLK:
		e.Type = snapshot.TypeBlock
		content = fmt.Sprint(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		e.Type = snapshot.TypeFifo
	}
	buf := make([]byte, 1024)
	n, _ := unix.Llistxattr(p, buf)
	for _, k := range strings.Split(string(buf[:max(n, 0)]), "\x00") {
		if k != "" && snapshot.IsLayerXattr(k) {
			v := make([]byte, 1024)
			n, err := unix.Lgetxattr(p, k, v)
			must(t, err)
			e.Xattrs[k] = string(v[:n])
		}
	}
	// Overlay shows directories' times of the layer that is on top; only files'
	// times are part of what is compared.
	describe(out, &e, st.Mtim.Sec, content)
}

// recorded makes st say what is recorded at p, where owners are.
func recorded(t testing.TB, p string, st *unix.Stat_t) {
	if !owner.Emulated() {
		return
	}
	rec, ok, err := owner.Read(p)
	must(t, err)
	if st.Uid, st.Gid = 0, 0; ok {
		rec.Apply(st)
	}
}

func describe(out io.Writer, e *snapshot.Entry, sec int64, content string) {
	if e.Type == snapshot.TypeDir {
		sec = 0
	}
	var xs []string
	for k, v := range e.Xattrs {
		xs = append(xs, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(xs)
	fmt.Fprintf(out, "%s %c %o %d:%d %d %q %v\n", e.Path, e.Type, e.Mode, e.UID, e.GID, sec, content, xs)
}

func listTree(t testing.TB, s *snapshot.Store, stack snapshot.Stack) string {
	t.Helper()
	tree, err := s.Tree(t.Context(), stack)
	must(t, err)
	var out strings.Builder
	must(t, snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
		if e.Path == "." {
			return nil
		}
		content := e.Linkname
		switch e.Type {
		case snapshot.TypeFile:
			r, err := tree.Open(e.Path)
			must(t, err)
			b, err := io.ReadAll(r)
			must(t, err, r.Close())
			content = string(digest.FromBytes(b))
			d, err := tree.Digest(e.Path)
			must(t, err)
			if string(d) != content {
				t.Errorf("%s: content is %s, the tree says %s", e.Path, content, d)
			}
		case snapshot.TypeChar, snapshot.TypeBlock:
			content = fmt.Sprint(e.DevMajor, e.DevMinor)
		}
		describe(&out, e, e.ModTime.Unix(), content)
		return nil
	}))
	return out.String()
}

// Name is a random path below a root, of few that are possible: intn returns a number
// below n.
func Name(root string, intn func(n int) int) string {
	for range 1 + intn(3) {
		root += "/" + string(rune('a'+intn(4)))
	}
	return root
}

// chance returns random numbers that begin with a seed, which the log tells and
// $BUILDER_TEST_SEED can set again.
func chance(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BUILDER_TEST_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		must(t, err)
	}
	t.Logf("BUILDER_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// scramble makes random changes to a file system.
func scramble(t testing.TB, root string, rnd *rand.Rand) {
	t.Helper()
	name := func() string { return Name(root, rnd.IntN) }
	text := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		return b
	}
	for range 60 {
		p := name()
		os.MkdirAll(filepath.Dir(p), 0o755)
		switch rnd.IntN(9) {
		case 0, 1:
			os.RemoveAll(p)
		case 2:
			os.Mkdir(p, 0o750)
		case 3:
			os.Symlink("target", p)
		case 4:
			os.Link(name(), p)
		case 5:
			unix.Setxattr(p, "user.x", text(3), 0)
		case 6:
			owner.Lchown(p, rnd.Uint32N(3), rnd.Uint32N(3))
		case 7:
			os.Rename(name(), p)
		default:
			os.WriteFile(p, text(rnd.IntN(200)), 0o640)
		}
	}
}

func rootTar(t testing.TB) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o751, Uid: 3}), w.Close())
	return b.Bytes()
}
