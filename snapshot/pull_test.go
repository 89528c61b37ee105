package snapshot_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/snapshottest"
)

type tarEntry struct {
	tar.Header
	data string
}

func ent(typ byte, name, data string) tarEntry {
	e := tarEntry{Header: tar.Header{Name: name, Typeflag: typ, Mode: 0o644, Uid: os.Geteuid(), Gid: os.Getegid(), ModTime: time.Unix(1e9, 0)}, data: data}
	if typ == tar.TypeDir {
		e.Mode = 0o755
	}
	if typ == tar.TypeLink || typ == tar.TypeSymlink {
		e.Linkname, e.data = data, ""
	}
	e.Size = int64(len(e.data))
	return e
}

func makeTar(t testing.TB, es ...tarEntry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range es {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// remote is a layer that lies elsewhere.
type remote struct {
	blob, tar []byte
	opened    atomic.Int32
	// open, if set, replaces the plain source.
	open func(ctx context.Context) (io.ReadCloser, error)
}

func (r *remote) lazy() snapshot.LazyLayer {
	return snapshot.LazyLayer{
		DiffID: snapshot.DiffID(digest.FromBytes(r.tar)),
		Blob:   ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(r.blob), Size: int64(len(r.blob))},
		Open: func(ctx context.Context) (io.ReadCloser, error) {
			r.opened.Add(1)
			if r.open != nil {
				return r.open(ctx)
			}
			return io.NopCloser(bytes.NewReader(r.blob)), nil
		},
	}
}

func addAll(t testing.TB, s *snapshot.Store, rs ...*remote) snapshot.Stack {
	t.Helper()
	var stack snapshot.Stack
	for _, r := range rs {
		l, err := s.AddLazy(stack, r.lazy())
		if err != nil {
			t.Fatal(err)
		}
		stack = append(stack, l)
	}
	return stack
}

func gz(b []byte) *remote { return &remote{blob: gzipped(b), tar: b} }

func readFile(t testing.TB, tree snapshot.Tree, p string) string {
	t.Helper()
	r, err := tree.Open(p)
	if err != nil {
		t.Errorf("%s: %v", p, err)
		return ""
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func TestMaterialize(t *testing.T) {
	needRoot(t)
	base := makeTar(t, ent(tar.TypeDir, "./", ""), ent(tar.TypeDir, "usr/", ""), ent(tar.TypeDir, "usr/lib/", ""), ent(tar.TypeSymlink, "lib", "usr/lib"),
		ent(tar.TypeReg, "usr/lib/a", "A"), ent(tar.TypeReg, "usr/lib/b", "B"), ent(tar.TypeDir, "d/", ""), ent(tar.TypeReg, "d/x", "x"), ent(tar.TypeReg, "gone", ""))
	special := ent(tar.TypeDir, "usr/lib/sub/", "")
	special.Mode = 0o711
	middle := makeTar(t, special, ent(tar.TypeReg, "d/.wh..wh..opq", ""), ent(tar.TypeReg, "d/y", "y"), ent(tar.TypeReg, ".wh.gone", ""))
	top := makeTar(t,
		ent(tar.TypeReg, "lib/c", "C"),               // through a symlink of the layer below
		ent(tar.TypeLink, "linked", "usr/lib/a"),     // to a file of the layer below
		ent(tar.TypeReg, "usr/lib/sub/s", "implied"), // no entry for the directories
		ent(tar.TypeReg, "new/deep/f", "f"))
	rs := []*remote{gz(base), gz(middle), gz(top)}
	s := openStore(t)
	stack := addAll(t, s, rs...)
	for i, l := range stack {
		if !s.Has(l.ID) || rs[i].opened.Load() != 0 {
			t.Fatalf("layer %d: known %v, opened %d times", i, s.Has(l.ID), rs[i].opened.Load())
		}
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Materialize(t.Context(), stack); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, r := range rs {
		if r.opened.Load() != 1 {
			t.Errorf("layer %d was fetched %d times", i, r.opened.Load())
		}
		if _, data := readTar(t, s, stack[i]); !bytes.Equal(data, r.tar) {
			t.Errorf("layer %d: another tar", i)
		}
	}
	tree, err := s.Tree(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{"usr/lib/c": "C", "linked": "A", "usr/lib/sub/s": "implied", "new/deep/f": "f", "d/y": "y", "usr/lib/b": "B"} {
		if got := readFile(t, tree, p); got != want {
			t.Errorf("%s: %q", p, got)
		}
	}
	for _, p := range []string{"d/x", "gone", "d/.wh..wh..opq"} {
		if _, err := tree.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if e, err := tree.Lstat("usr/lib/sub"); err != nil || e.Mode != 0o711 {
		t.Errorf("implied directory: %+v %v", e, err)
	}
	if e, err := tree.Lstat("lib"); err != nil || e.Type != snapshot.TypeSymlink {
		t.Errorf("lib: %+v %v", e, err)
	}
	if os.Geteuid() == 0 {
		mountAndCheck(t, s, stack)
	}
}

func mountAndCheck(t *testing.T, s *snapshot.Store, stack snapshot.Stack) {
	m, err := s.View(t.Context(), stack)
	if err != nil {
		t.Fatal(err)
	}
	snapshottest.InMount(t, m, func(root string) {
		var a, b unix.Stat_t
		if unix.Lstat(root+"/linked", &a) != nil || unix.Lstat(root+"/usr/lib/a", &b) != nil || a.Ino != b.Ino || a.Nlink < 2 {
			t.Errorf("the hard link is another file: %+v %+v", a, b)
		}
		names, err := os.ReadDir(root + "/d")
		if err != nil || len(names) != 1 {
			t.Errorf("d: %v %v", names, err)
		}
		if _, err := os.Lstat(root + "/gone"); err == nil {
			t.Error("gone is there")
		}
	})
}

func TestCompressions(t *testing.T) {
	needRoot(t)
	plain := makeTar(t, ent(tar.TypeReg, "f", strings.Repeat("content ", 100000)))
	var zs bytes.Buffer
	w, _ := zstd.NewWriter(&zs)
	w.Write(plain)
	w.Close()
	half := len(plain) / 2
	for name, blob := range map[string][]byte{
		"gzip": gzipped(plain), "zstd": zs.Bytes(), "plain": plain,
		"two gzip members": append(gzipped(plain[:half]), gzipped(plain[half:])...),
	} {
		s := openStore(t)
		r := &remote{blob: blob, tar: plain}
		stack := addAll(t, s, r)
		if err := s.Materialize(t.Context(), stack); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := os.ReadFile(s.Blobs().Path(digest.FromBytes(blob)))
		if err != nil || !bytes.Equal(got, blob) {
			t.Errorf("%s: the blob was not kept: %v", name, err)
		}
		if desc, ok := s.Blob(stack[0]); !ok || desc.Digest != digest.FromBytes(blob) {
			t.Errorf("%s: %v", name, desc)
		}
	}
}

var errReset = errors.New("connection reset")

// TestBrokenNetwork: what the source could not mend is the error of the fetch, which is not
// tried again and leaves nothing.
func TestBrokenNetwork(t *testing.T) {
	r := gz(makeTar(t, ent(tar.TypeReg, "f", string(benchData(1<<20)))))
	for name, open := range map[string]func(context.Context) (io.ReadCloser, error){
		"not opened": func(context.Context) (io.ReadCloser, error) { return nil, errReset },
		"broken": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(r.blob[:len(r.blob)/2]), iotest.ErrReader(errReset))), nil
		},
	} {
		s := openStore(t)
		r.open = open
		r.opened.Store(0)
		if err := s.Materialize(t.Context(), addAll(t, s, r)); !errors.Is(err, errReset) || r.opened.Load() != 1 {
			t.Errorf("%s: opened %d times, %v", name, r.opened.Load(), err)
		}
		for _, dir := range []string{"layers", "blobs/sha256", "tmp"} {
			if left, err := os.ReadDir(filepath.Join(s.Root(), dir)); err != nil || len(left) > 0 {
				t.Errorf("%s: %s holds %v, %v", name, dir, left, err)
			}
		}
	}
}

func TestLyingBlobs(t *testing.T) {
	good := makeTar(t, ent(tar.TypeReg, "f", "good"))
	evil := makeTar(t, ent(tar.TypeReg, "f", "evil"))
	for name, r := range map[string]*remote{
		"other blob": {blob: gzipped(good), tar: good, open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(gzipped(evil))), nil
		}},
		"other tar":   {blob: gzipped(evil), tar: good},
		"cut-off tar": {blob: gzipped(good[:514]), tar: good[:514]},
		"not a tar":   {blob: gzipped([]byte(strings.Repeat("x", 2000))), tar: []byte(strings.Repeat("x", 2000))},
		"cut-off gzip": func() *remote {
			b := gzipped(good)
			return &remote{blob: b[:len(b)-12], tar: good}
		}(),
		"longer": {blob: gzipped(good), tar: good, open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(append(gzipped(good), "more"...))), nil
		}},
	} {
		s := openStore(t)
		stack := addAll(t, s, r)
		err := s.Materialize(t.Context(), stack)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		t.Logf("%s: %v", name, err)
		if _, ok := s.Lookup(stack.ChainID()); ok {
			t.Errorf("%s: the layer is in the store", name)
		}
		left, _ := os.ReadDir(filepath.Join(s.Root(), "tmp"))
		blobs, _ := s.Blobs().All()
		if len(left) > 0 || (len(blobs) > 0 && !strings.Contains(name, "tar")) {
			t.Errorf("%s: left behind %v %v", name, left, blobs)
		}
	}
}

func TestCancelledFetch(t *testing.T) {
	r := gz(makeTar(t, ent(tar.TypeReg, "f", "x")))
	started := make(chan struct{})
	r.open = func(ctx context.Context) (io.ReadCloser, error) {
		pr, pw := io.Pipe()
		context.AfterFunc(ctx, func() { pw.CloseWithError(ctx.Err()) })
		close(started)
		return pr, nil
	}
	s := openStore(t)
	stack := addAll(t, s, r)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-started; cancel(errors.New("the user gave up")) }()
	if err := s.Materialize(ctx, stack); err == nil || !strings.Contains(err.Error(), "gave up") {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFetchOnly(t *testing.T) {
	needRoot(t)
	r := gz(makeTar(t, ent(tar.TypeReg, "f", "x")))
	s := openStore(t)
	stack := addAll(t, s, r)
	for range 2 {
		lazy, _ := s.Lazy(stack[0].ID)
		if err := s.FetchBlob(t.Context(), lazy); err != nil || !s.Blobs().Has(digest.FromBytes(r.blob)) {
			t.Fatal(err)
		}
	}
	if _, ok := s.Lookup(stack.ChainID()); ok {
		t.Error("it was unpacked")
	}
	if err := s.Materialize(t.Context(), stack); err != nil || r.opened.Load() != 1 {
		t.Errorf("opened %d times: %v", r.opened.Load(), err)
	}
}

func benchData(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
		if i%3 == 0 {
			b[i] = 'a'
		}
	}
	return b
}

func BenchmarkMaterialize(b *testing.B) {
	var rs []*remote
	for l := range 4 {
		var es []tarEntry
		data := benchData(20000)
		for i := range 2000 {
			es = append(es, ent(tar.TypeReg, fmt.Sprintf("l%d-%d/f%04d", l, i/100, i), string(data[i:])))
		}
		rs = append(rs, gz(makeTar(b, es...)))
	}
	for b.Loop() {
		s := openStore(b)
		if err := s.Materialize(b.Context(), addAll(b, s, rs...)); err != nil {
			b.Fatal(err)
		}
	}
}
