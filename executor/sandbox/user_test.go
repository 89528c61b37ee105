package sandbox

import (
	"io"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// files is a Tree of regular files; a value that begins with "->" is a symlink.
type files map[string]string

func (f files) Lstat(path string) (*snapshot.Entry, error) {
	v, ok := f[path]
	if !ok {
		for p := range f {
			if strings.HasPrefix(p, path+"/") {
				return &snapshot.Entry{Path: path, Type: snapshot.TypeDir}, nil
			}
		}
		return nil, &fs.PathError{Op: "lstat", Path: path, Err: fs.ErrNotExist}
	}
	if target, ok := strings.CutPrefix(v, "->"); ok {
		return &snapshot.Entry{Path: path, Type: snapshot.TypeSymlink, Linkname: target}, nil
	}
	return &snapshot.Entry{Path: path, Type: snapshot.TypeFile}, nil
}

func (f files) Open(path string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f[path])), nil
}

func (f files) ReadDir(string) ([]*snapshot.Entry, error) { return nil, fs.ErrInvalid }
func (f files) Digest(string) (digest.Digest, error)      { return "", fs.ErrInvalid }

func TestResolveUser(t *testing.T) {
	tree := files{
		"etc/passwd":    "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nnobody:x:65534:65534:::\n",
		"etc/group":     "->/usr/etc/group",
		"usr/etc/group": "root:x:0:\napps:x:1001:\nextra:x:2000:app,root\nother:x:2001:app\n",
	}
	for _, test := range []struct {
		tree snapshot.Tree
		spec string
		want User
		home string
		err  string
	}{
		{tree, "", User{0, 0, []uint32{0, 2000}}, "/root", ""},
		{tree, "root", User{0, 0, []uint32{0, 2000}}, "/root", ""},
		{tree, "app", User{1000, 1001, []uint32{1001, 2000, 2001}}, "/home/app", ""},
		{tree, "1000", User{1000, 1001, []uint32{1001, 2000, 2001}}, "/home/app", ""},
		{tree, "app:extra", User{1000, 2000, []uint32{2000}}, "/home/app", ""},
		{tree, "1000:0", User{1000, 0, []uint32{0}}, "/home/app", ""},
		{tree, "root:0", User{0, 0, []uint32{0}}, "/root", ""},
		{tree, "1234", User{1234, 0, []uint32{0}}, "/", ""},
		{tree, "1234:5678", User{1234, 5678, []uint32{5678}}, "/", ""},
		{tree, "1234:extra", User{1234, 2000, []uint32{2000}}, "/", ""},
		{tree, "nobody", User{65534, 65534, []uint32{65534}}, "/", ""},
		{tree, "absent", User{}, "", `resolve user "absent"`},
		{tree, "app:absent", User{}, "", `resolve user "app:absent"`},
		{files{}, "", User{0, 0, []uint32{0}}, "/", ""},
		{files{}, "5:6", User{5, 6, []uint32{6}}, "/", ""},
		{files{}, "app", User{}, "", "resolve user"},
		{files{"etc/passwd": "->passwd"}, "app", User{}, "", "too many symlinks"},
		{nil, "7", User{7, 0, []uint32{0}}, "/", ""},
	} {
		got, home, err := ResolveUser(test.tree, test.spec)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q: error %v, want %q", test.spec, err, test.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, test.want) || home != test.home {
			t.Errorf("%q: got %+v, %q, %v; want %+v, %q", test.spec, got, home, err, test.want, test.home)
		}
	}
}
