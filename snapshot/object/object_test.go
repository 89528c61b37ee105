package object

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/fixtures"
	"layered.build/builder/snapshot/manifest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makers are that of this process and the one that records.
func makers(t *testing.T) map[string]*Maker {
	all := map[string]*Maker{"own": NewMaker(), "recording": NewMaker().ForProcesses()}
	if os.Geteuid() != 0 {
		t.Log("the maker of this process cannot make what belongs to others")
		delete(all, "own")
	}
	return all
}

// TestMakeAndDescribe proves that what was made is described as it was asked for.
func TestMakeAndDescribe(t *testing.T) {
	for name, m := range makers(t) {
		t.Run(name, func(t *testing.T) {
			at := time.Unix(1e9, 0)
			for _, e := range []manifest.Entry{
				{Type: manifest.TypeFile, Mode: 0o4751, UID: 7, GID: 8, Size: 3, Xattrs: map[string]string{"user.a": "b"}},
				{Type: manifest.TypeDir, Mode: 0o1777, UID: 7, GID: 8},
				{Type: manifest.TypeDir, Mode: 0o500, Xattrs: map[string]string{"user.a": "b\x00"}},
				{Type: manifest.TypeSymlink, Mode: 0o777, Linkname: "../x"},
				{Type: manifest.TypeFifo, Mode: 0o640},
				{Type: manifest.TypeChar, Mode: 0o600, UID: 7, DevMajor: 1, DevMinor: 3},
				{Type: manifest.TypeBlock, Mode: 0o660, GID: 8, DevMajor: 8, DevMinor: 300},
			} {
				if device := e.DevMajor > 0; device && name == "own" && !fixtures.RealRoot() {
					continue // in a user namespace none can be made
				}
				e.ModTime = at
				p := filepath.Join(t.TempDir(), "x")
				if e.Type == manifest.TypeFile {
					must(t, m.WriteFile(p, &e, []byte("abc")))
				} else {
					must(t, m.Create(p, &e))
					must(t, m.SetMeta(p, &e))
				}
				st, err := m.Lstat(p)
				must(t, err)
				got, opaque, err := m.Describe(p, mustStat(t, p))
				must(t, err)
				if StatEntry(st).Mode != got.Mode || st.Uid != got.UID {
					t.Errorf("%c: Lstat and Describe differ", e.Type)
				}
				got.Linkname = e.Linkname // the caller's
				if opaque || !got.ModTime.Equal(at) {
					t.Errorf("%c: opaque %v, time %v", e.Type, opaque, got.ModTime)
				}
				if got.ModTime = at; !reflect.DeepEqual(got, e) {
					t.Errorf("made\n%+v, found\n%+v", e, got)
				}
			}
		})
	}
}

func mustStat(t *testing.T, p string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, Lstat(p, &st))
	return &st
}

func TestOpaqueAndWhiteout(t *testing.T) {
	for name, m := range makers(t) {
		dir := t.TempDir()
		p := filepath.Join(dir, "d")
		must(t, m.Create(p, &manifest.Entry{Type: manifest.TypeDir}))
		must(t, m.SetMeta(p, &manifest.Entry{Type: manifest.TypeDir, Mode: 0o755, Opaque: true}))
		if _, opaque, err := m.Describe(p, mustStat(t, p)); err != nil || !opaque {
			t.Errorf("%s: opaque %v, %v", name, opaque, err)
		}
		w := filepath.Join(dir, "w")
		must(t, m.Create(w, &manifest.Entry{Type: manifest.TypeWhiteout}))
		if e, _, err := m.Describe(w, mustStat(t, w)); os.Geteuid() == 0 && (err != nil || e.Type != manifest.TypeWhiteout) {
			t.Errorf("%s: whiteout: %c, %v", name, e.Type, err)
		}
		if m.Create(filepath.Join(dir, "c"), &manifest.Entry{Type: manifest.TypeChar}) == nil {
			t.Errorf("%s: a whiteout was made as a device", name)
		}
	}
}

func TestReadFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(p, []byte("0123456789"), 0o600))
	for size, want := range map[int]int{11: 10, 20: 10, 10: 10, 6: 6} { // a full buffer says that it has grown
		if n, err := ReadFile(p, make([]byte, size)); n != want || err != nil {
			t.Errorf("%d bytes into %d, %v", n, size, err)
		}
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none"), make([]byte, 1)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no file: %v", err)
	}
	link := p + ".link"
	must(t, os.Symlink(p, link))
	if _, err := ReadFile(link, make([]byte, 1)); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a symlink was followed: %v", err)
	}
}

func TestLayerXattrs(t *testing.T) {
	for name, want := range map[string]bool{
		"security.capability": true, "user.x": true, "trusted.x": true,
		"security.selinux": false, "system.posix_acl_access": false, "trusted.overlay.opaque": false,
		"user.overlay.whiteout": false, "user.fuseoverlayfs.origin": false,
	} {
		if IsLayerXattr(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
