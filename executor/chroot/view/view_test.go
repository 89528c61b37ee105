package view

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func testViewer(v *View) *Viewer {
	return &Viewer{View: v, Root: "/", PID: os.Getpid(), TID: os.Getpid(), Known: func(int) bool { return false }, Original: func(s string) string { return s }}
}

// Paths lead where the kernel leads them with RESOLVE_IN_ROOT, in random trees full
// of symlinks, and fail where it fails: "." and ".." stand after directories only.
func TestResolveLikeTheKernel(t *testing.T) {
	compared, dots, found := 0, 0, 0
	for seed := range uint64(40) {
		root := t.TempDir()
		r := rand.New(rand.NewPCG(seed, 1))
		name := func(max int) string {
			var parts []string
			for range 1 + r.IntN(max) {
				parts = append(parts, []string{"a", "b", "c", "d", "..", "."}[r.IntN(6)])
			}
			return strings.Join(parts, "/")
		}
		for range 40 {
			p := filepath.Join(root, filepath.Join("/", name(4)))
			os.MkdirAll(filepath.Dir(p), 0o755)
			switch r.IntN(4) {
			case 0:
				os.Mkdir(p, 0o755)
			case 1:
				os.WriteFile(p, nil, 0o644)
			default:
				target := name(4)
				if r.IntN(2) == 0 {
					target = "/" + target
				}
				os.Symlink(target, p)
			}
		}
		fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w := testViewer(&View{Root: root})
		for range 200 {
			p := name(6)
			if r.IntN(4) == 0 {
				p += "/"
			}
			if r.IntN(4) == 0 {
				p = "/" + p
			}
			follow := r.IntN(2) == 0
			how := unix.OpenHow{Flags: unix.O_PATH, Resolve: unix.RESOLVE_IN_ROOT}
			if !follow {
				how.Flags |= unix.O_NOFOLLOW
			}
			want := ""
			obj, kerr := unix.Openat2(fd, p, &how)
			for kerr == unix.EAGAIN { // something was renamed meanwhile, somewhere on this machine
				obj, kerr = unix.Openat2(fd, p, &how)
			}
			if kerr == nil {
				want, _ = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", obj))
				unix.Close(obj)
			}
			got, err := w.Resolve("/", p, follow)
			if err == nil {
				var st unix.Stat_t
				err = unix.Lstat(got.Host, &st)
			}
			host := strings.TrimSuffix(got.Host, "/")
			if err == nil && host != root && !strings.HasPrefix(host, root+"/") {
				t.Errorf("seed %d: %q leads out of the root: %q", seed, p, host)
			}
			compared++
			if strings.Contains(p, "..") {
				dots++
			}
			switch {
			case (err == nil) != (kerr == nil):
				t.Errorf("seed %d: %q (follow %v): %v, the kernel says %v", seed, p, follow, err, kerr)
			case err == nil && host != want:
				t.Errorf("seed %d: %q (follow %v) is %q, want %q", seed, p, follow, host, want)
			case err == nil:
				found++
			}
		}
		unix.Close(fd)
	}
	if compared < 7000 || dots < 3000 || found < 3000 {
		t.Errorf("of 8000 paths only %d were compared, %d of them with dots; %d lead to something", compared, dots, found)
	}
}

func TestView(t *testing.T) {
	v := &View{Root: "/store/tree", Bindings: []Binding{
		{"/cache", "/store/mounts/1", false}, {"/cache/deep", "/elsewhere", true}, {"/proc", "/proc", false}, {"/f", "/store/f", true},
	}}
	for _, c := range []struct {
		guest, host string
		readOnly    bool
	}{
		{"/", "/store/tree", false}, {"/etc/passwd", "/store/tree/etc/passwd", false}, {"/cache", "/store/mounts/1", false},
		{"/cache/x", "/store/mounts/1/x", false}, {"/cache/deep/x", "/elsewhere/x", true}, {"/cached", "/store/tree/cached", false},
		{"/f", "/store/f", true}, {"/proc/1", "/proc/1", false},
	} {
		if p := v.At(c.guest); p.Host != c.host || p.ReadOnly != c.readOnly {
			t.Errorf("%s is %+v", c.guest, p)
		}
		if p, ok := v.Named(c.host); !ok || p.Guest != c.guest {
			t.Errorf("%s is named %+v", c.host, p)
		}
	}
	for _, host := range []string{"/", "/store", "/store/tree2", "/etc/passwd", "pipe:[1]"} {
		if p, ok := v.Named(host); ok {
			t.Errorf("%s is named %+v", host, p)
		}
	}
}
