package mounts

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/object"
)

// odd makes a folder of all that is carried.
func odd(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mount")
	at := func(name string) string { return filepath.Join(dir, name) }
	write(t, at("empty"), nil)
	write(t, at("small"), []byte("small"))
	write(t, at("large"), noise(1, 3<<20))
	write(t, at("text"), bytes.Repeat([]byte("the same line again\n"), 40_000))
	write(t, at("not utf-8 \xff\xfe\n"), []byte("bytes"))
	write(t, at(strings.Repeat("n", 255)), []byte("long"))
	write(t, at("setuid"), []byte("s"))
	must(t, os.Mkdir(at("folder"), 0o755))
	must(t, os.Mkdir(at("emptyfolder"), 0o755))
	write(t, at("folder/file"), []byte("file"))
	must(t, os.Link(at("folder/file"), at("hard")))
	must(t, os.Symlink("../../../nowhere\xff", at("folder/link")))
	must(t, os.Symlink("/etc", at("abs")))
	must(t, os.Link(at("abs"), at("abs2")))
	must(t, unix.Mkfifo(at("fifo"), 0o640))
	must(t, os.Link(at("fifo"), at("folder/fifo2")))
	must(t, unix.Lsetxattr(at("small"), "user.name", []byte("\x00value"), 0))
	must(t, unix.Lsetxattr(at("folder"), "user.of.folder", []byte("x"), 0))
	must(t, unix.Lsetxattr(at("small"), "user.builder.own", []byte("not carried"), 0))
	for name, data := range map[string][2]int64{"sparse": {1 << 20, 5000}, "hole": {0, 0}, "tail": {8 << 20, 4096}} {
		f, err := os.Create(at(name))
		must(t, err)
		must(t, f.Truncate(8<<20+4096))
		_, err = f.WriteAt(noise(7, int(data[1])), data[0])
		must(t, err)
		must(t, f.Close())
	}
	if os.Geteuid() == 0 {
		must(t, os.Lchown(at("large"), 1000, 1001))
		must(t, os.Lchown(at("abs"), 12, 13))
		must(t, os.Lchown(at("folder"), 5, 6))
	}
	must(t, os.Chmod(at("setuid"), 0o755|os.ModeSetuid|os.ModeSetgid))
	must(t, os.Chmod(at("emptyfolder"), 0o777|os.ModeSticky))
	must(t, os.Chmod(at("text"), 0o444))
	when := time.Unix(1_000_000_000, 123_456_789)
	must(t, os.Chtimes(at("small"), when, when))
	must(t, os.Chtimes(at("emptyfolder"), when, when))
	must(t, os.Chmod(at("folder"), 0o555))
	t.Cleanup(func() { must(t, os.Chmod(at("folder"), 0o755)) })
	must(t, os.Chmod(dir, 0o750))
	return dir
}

// same fails unless two folders have the same objects with the same content.
func same(t *testing.T, want, got string) {
	t.Helper()
	a, err := Scan(t.Context(), want, object.NewMaker())
	must(t, err)
	b, err := Scan(t.Context(), got, object.NewMaker())
	must(t, err)
	if len(a.Entries) != len(b.Entries) {
		t.Fatalf("%d entries, want %d", len(b.Entries), len(a.Entries))
	}
	there, here := newPaths(want, a.Entries), newPaths(got, a.Entries)
	for i := range a.Entries {
		x, y := a.Entries[i], b.Entries[i]
		if !x.ModTime.Equal(y.ModTime) {
			t.Errorf("%q: time %v, want %v", here.of(i), y.ModTime, x.ModTime)
		}
		x.ModTime, y.ModTime = time.Time{}, time.Time{}
		if !reflect.DeepEqual(x, y) {
			t.Errorf("got  %+v\nwant %+v", y, x)
		}
		if x.Kind != KindFile {
			continue
		}
		c, err := os.ReadFile(there.of(i))
		must(t, err)
		d, err := os.ReadFile(here.of(i))
		must(t, err)
		if !bytes.Equal(c, d) {
			t.Errorf("%q has another content", here.of(i))
		}
	}
	if a.Listing() != b.Listing() {
		t.Error("the listings differ")
	}
}

func TestRoundTrip(t *testing.T) {
	dir := odd(t)
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(l)
	t.Chdir(dir)
	must(t, unix.Bind(l, &unix.SockaddrUnix{Name: "socket"}))
	p := &place{}
	m, moved := p.pack(t, dir, nil)
	if moved.Bytes < 3<<20 || moved.Bytes > 3<<20+200<<10 {
		t.Errorf("%d bytes moved: holes are no bytes, and the text is small", moved.Bytes)
	}
	got, err := p.restore(t, m)
	must(t, err)
	t.Cleanup(func() { must(t, os.Chmod(filepath.Join(got, "folder"), 0o755)) })
	same(t, dir, got)
	for name, want := range map[string]int64{"sparse": 64, "hole": 0, "tail": 64} {
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(got, name), &st))
		if st.Blocks > want {
			t.Errorf("%s has %d blocks", name, st.Blocks)
		}
	}
	if _, err := unix.Getxattr(filepath.Join(got, "small"), "user.builder.own", nil); err != unix.ENODATA {
		t.Errorf("an attribute of this program was carried: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(got, "socket")); !os.IsNotExist(err) {
		t.Errorf("a socket was carried: %v", err)
	}
	// What was restored is what was packed: nothing moves again.
	known := &Known{}
	known.Add(m, usable)
	if _, moved := p.pack(t, got, known); moved.Bytes != 0 {
		t.Errorf("%d bytes moved again", moved.Bytes)
	}
}

// TestDeep carries what is deeper than a path may be long.
func TestDeep(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mount")
	must(t, os.Mkdir(dir, 0o755))
	name := strings.Repeat("d", 250)
	at, err := os.Open(dir)
	must(t, err)
	for range 40 {
		must(t, unix.Mkdirat(int(at.Fd()), name, 0o755))
		fd, err := unix.Openat(int(at.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(t, err)
		must(t, at.Close())
		at = os.NewFile(uintptr(fd), name)
	}
	fd, err := unix.Openat(int(at.Fd()), "file", unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	must(t, err)
	_, err = unix.Write(fd, []byte("deep"))
	must(t, err)
	must(t, unix.Close(fd))
	must(t, at.Close())
	p := &place{}
	m, _ := p.pack(t, dir, nil)
	got, err := p.restore(t, m)
	must(t, err)
	again, _ := p.pack(t, got, nil)
	if len(again.Entries) != 42 || Listing(again.Entries) != Listing(m.Entries) || again.Entries[41].Size != 4 {
		t.Errorf("%d entries", len(again.Entries))
	}
}

// TestSmallChange moves what was added and not much more, wherever it is.
func TestSmallChange(t *testing.T) {
	dir := t.TempDir()
	for i := range 400 {
		write(t, filepath.Join(dir, string(rune('a'+i%20)), strings.Repeat("x", i%30+1), "f"+string(rune('0'+i%10))), noise(uint64(i), 40_000+i*37))
	}
	p := &place{}
	m, first := p.pack(t, dir, nil)
	known := &Known{}
	known.Add(m, usable)
	write(t, filepath.Join(dir, "c/added"), noise(999, 100_000))
	must(t, os.RemoveAll(filepath.Join(dir, "k/"+strings.Repeat("x", 11))))
	write(t, filepath.Join(dir, "q/f"), append([]byte("before "), noise(998, 30_000)...))
	m2, moved := p.pack(t, dir, known)
	if moved.Bytes > 900_000 || moved.Bytes < 130_000 {
		t.Errorf("%d of %d bytes moved", moved.Bytes, first.Bytes)
	}
	got, err := p.restore(t, m2)
	must(t, err)
	same(t, dir, got)
	// Another mount with the same files needs no bytes.
	other := filepath.Join(t.TempDir(), "other")
	must(t, os.CopyFS(other, os.DirFS(dir)))
	known.Add(m2, usable)
	if _, moved := p.pack(t, other, known); moved.Bytes > 200_000 {
		t.Errorf("%d bytes moved for a copy", moved.Bytes)
	}
}

// TestRepack does not keep packs for a small part of them, nor many small ones.
func TestRepack(t *testing.T) {
	dir := t.TempDir()
	for i := range 30 {
		write(t, filepath.Join(dir, string(rune('a'+i))), noise(uint64(i), 1<<20))
	}
	p := &place{}
	m, _ := p.pack(t, dir, nil)
	if len(m.Packs) != 4 {
		t.Fatalf("%d packs", len(m.Packs))
	}
	known := &Known{}
	known.Add(m, usable)
	for i := range 30 {
		if i%8 != 0 {
			must(t, os.Remove(filepath.Join(dir, string(rune('a'+i)))))
		}
	}
	m, moved := p.pack(t, dir, known)
	if len(m.Packs) != 1 || moved.Bytes < 4<<20 {
		t.Errorf("%d packs, %d bytes moved", len(m.Packs), moved.Bytes)
	}
	for i := range 12 { // each version adds a little
		write(t, filepath.Join(dir, "more"+string(rune('a'+i))), noise(uint64(100+i), 50_000))
		known = &Known{}
		known.Add(m, usable)
		if m, _ = p.pack(t, dir, known); len(m.Packs) > manySmall+2 {
			t.Errorf("version %d: %d packs", i, len(m.Packs))
		}
	}
	got, err := p.restore(t, m)
	must(t, err)
	same(t, dir, got)
}

// benchFolder is a folder of many files that become smaller.
func benchFolder(b *testing.B) string {
	b.Helper()
	dir := b.TempDir()
	for i := range 2000 {
		text := bytes.Repeat(noise(uint64(i), 64), 1+i%300)
		write(b, filepath.Join(dir, string(rune('a'+i%26)), strings.Repeat("x", i%9+1)+string(rune('0'+i/26%10))+string(rune('A'+i/260))), text)
	}
	return dir
}

func BenchmarkPack(b *testing.B) {
	dir := benchFolder(b)
	b.ReportAllocs()
	for b.Loop() {
		p := &place{}
		m, _ := p.pack(b, dir, nil)
		b.SetBytes(m.Size())
	}
}

func BenchmarkRestore(b *testing.B) {
	p := &place{}
	m, _ := p.pack(b, benchFolder(b), nil)
	b.SetBytes(m.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.restore(b, m); err != nil {
			b.Fatal(err)
		}
	}
}
