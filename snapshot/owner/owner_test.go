package owner

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		text string
		stat Stat
	}{
		{"0:42:0640:file", Stat{0, 42, unix.S_IFREG | 0o640, 0}},
		{"101:104:0700:dir", Stat{101, 104, unix.S_IFDIR | 0o700, 0}},
		{"1:2:4755:file", Stat{1, 2, unix.S_IFREG | 0o4755, 0}},
		{"1:2:0777:symlink", Stat{1, 2, unix.S_IFLNK | 0o777, 0}},
		{"1:2:0600:pipe", Stat{1, 2, unix.S_IFIFO | 0o600, 0}},
		{"1:2:0600:socket", Stat{1, 2, unix.S_IFSOCK | 0o600, 0}},
		{"0:0:0666:char-1-3", Stat{0, 0, unix.S_IFCHR | 0o666, unix.Mkdev(1, 3)}},
		{"0:6:0660:block-259-1048575", Stat{0, 6, unix.S_IFBLK | 0o660, unix.Mkdev(259, 1048575)}},
		{"4294967294:4294967294:0000", Stat{1<<32 - 2, 1<<32 - 2, 0, 0}},
	} {
		if got := c.stat.String(); got != c.text {
			t.Errorf("%+v is %q, want %q", c.stat, got, c.text)
		}
		if got, err := Parse(c.text); err != nil || got != c.stat {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "0", "0:0", "a:0:0755", "0:-1:0755", "0:0:0855", "0:0:10000", "4294967295:0:0755", "0:4294967296:0755",
		"0:0:0755:", "0:0:0755:door", "0:0:0755:char", "0:0:0755:char-1", "0:0:0755:char-1-x", "0:0:0755:link-1-2", "0:0:0755:file:x", "0:0:0000:char-0-0",
	} {
		if s, err := Parse(text); err == nil {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

func TestMapSize(t *testing.T) {
	for text, want := range map[string]uint64{
		"         0       1000          1\n": 1,
		"0 1000 1\n1 100000 65536\n":         65537,
		"         0          0 4294967295\n": 4294967295,
		"":                                   0,
	} {
		if got := mapSize(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func TestRecord(t *testing.T) {
	p := t.TempDir() + "/f"
	if err := os.WriteFile(p, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := unix.Lsetxattr(p, Xattr, []byte("0:0:0600:file"), 0); err != nil {
		t.Skip("the file system of the temporary folder keeps no user attributes: ", err)
	}
	read := func(want string) {
		t.Helper()
		if s, ok, err := Read(p); err != nil || ok != (want != "") || ok && s.String() != want {
			t.Errorf("recorded %q, %v, %v; want %q", s, ok, err, want)
		}
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	check(Record(p, 5, 6))
	read("5:6:0640:file")
	check(Record(p, 0, 0))
	read("")
	check(Write(p, Stat{Mode: unix.S_IFCHR | 0o600, Dev: unix.Mkdev(1, 3)}))
	check(Record(p, 0, 9))
	read("0:9:0640:char-1-3")
	check(Record(p, 0, 0))
	read("0:0:0640:char-1-3")
	var st unix.Stat_t
	check(unix.Lstat(p, &st))
	s, _, err := Read(p)
	check(err)
	s.Apply(&st)
	if st.Mode != unix.S_IFCHR|0o640 || st.Rdev != unix.Mkdev(1, 3) || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("%+v", st)
	}
	check(Remove(p))
	check(Remove(p))
	read("")
	check(unix.Lsetxattr(p, Xattr, []byte("nonsense"), 0))
	read("")
	link := p + "-link"
	check(os.Symlink(p, link))
	check(Record(link, 5, 6))
	if _, ok, err := Read(link); ok || err != nil {
		t.Error("a symlink has a record", err)
	}
}
