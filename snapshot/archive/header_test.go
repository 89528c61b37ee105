package archive

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"strings"
	"testing"
	"time"
)

// TestHeaderReadBack checks that other readers see what a header says.
func TestHeaderReadBack(t *testing.T) {
	long := strings.Repeat("d/", 60) + strings.Repeat("n", 90)
	for name, h := range map[string]Header{
		"plain":      {Name: "a/b", Type: '0', Mode: 0o4755, UID: 1000, GID: 1000, ModTime: 1e9},
		"dir":        {Name: "a/", Type: '5', Mode: 0o1777},
		"prefix":     {Name: long, Type: '0', Mode: 0o644},
		"too long":   {Name: strings.Repeat("x", 300), Type: '0', Mode: 0o644},
		"exact 100":  {Name: strings.Repeat("x", 100), Type: '0'},
		"dir 101":    {Name: strings.Repeat("x", 100) + "/", Type: '5'},
		"unicode":    {Name: "grüße/日本", Type: '0', Mode: 0o600},
		"bytes":      {Name: "a\xffb", Type: '0'},
		"large":      {Name: "big", Type: '1', Linkname: "x", UID: 1 << 30, GID: 1<<32 - 2, ModTime: 1 << 34},
		"old":        {Name: "old", Type: '0', ModTime: -5},
		"symlink":    {Name: "s", Type: '2', Linkname: strings.Repeat("l", 150)},
		"attributes": {Name: "c", Type: '0', Xattrs: map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x04", "user.a": "b\nc=d"}},
		"device":     {Name: "dev", Type: '3', DevMajor: 5, DevMinor: 1},
	} {
		b := append(AppendHeader(nil, &h), make([]byte, 2*blockSize)...)
		tr := tar.NewReader(bytes.NewReader(b))
		got, err := tr.Next()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		xattrs := map[string]string{}
		for k, v := range got.PAXRecords {
			if k, ok := strings.CutPrefix(k, xattrPrefix); ok {
				xattrs[k] = v
			}
		}
		if got.Name != h.Name || got.Typeflag != h.Type || uint32(got.Mode) != h.Mode || got.Linkname != h.Linkname ||
			uint32(got.Uid) != h.UID || uint32(got.Gid) != h.GID || !got.ModTime.Equal(time.Unix(h.ModTime, 0)) ||
			got.Devmajor != h.DevMajor || got.Devminor != h.DevMinor || !maps.Equal(xattrs, h.Xattrs) {
			t.Errorf("%s: wrote %+v, read %+v", name, h, got)
		}
		if _, err := tr.Next(); err != io.EOF {
			t.Errorf("%s: after the entry: %v", name, err)
		}
	}
}

// TestHeaderBytes pins the encoding: every DiffID depends on it.
func TestHeaderBytes(t *testing.T) {
	b := AppendHeader(nil, &Header{Name: "a", Type: '0', Mode: 0o644, Size: 3, ModTime: 1e9, UID: 1})
	want := "a" + strings.Repeat("\x00", 99) + "0000644\x000000001\x000000000\x0000000000003\x0007346545000\x00007404\x00 0" +
		strings.Repeat("\x00", 100) + "ustar\x0000" + strings.Repeat("\x00", 64) + "0000000\x000000000\x00" + strings.Repeat("\x00", 167)
	if string(b) != want {
		t.Errorf("got  %q\nwant %q", b, want)
	}
}

func FuzzHeader(f *testing.F) {
	f.Add("a/b", "target", "user.x", "v", int64(3))
	f.Add(strings.Repeat("p/", 100), "", "", "", int64(-1))
	f.Fuzz(func(t *testing.T, name, link, key, value string, mtime int64) {
		name = strings.Trim(name, "/")
		if name == "" || strings.Contains(name+link+key, "\x00") || strings.Contains(key, "=") || key == "" || len(name) > 4000 || len(link) > 4000 || mtime > 1<<40 || mtime < -1<<40 {
			return
		}
		h := Header{Name: name, Type: '2', Linkname: link, ModTime: mtime, Xattrs: map[string]string{key: value}}
		got, err := tar.NewReader(bytes.NewReader(append(AppendHeader(nil, &h), make([]byte, 2*blockSize)...))).Next()
		if err != nil {
			t.Fatal(err)
		}
		if got.Name != name || got.Linkname != link || got.PAXRecords[xattrPrefix+key] != value || got.ModTime.Unix() != mtime {
			t.Fatalf("wrote %+v, read %+v", h, got)
		}
	})
}
