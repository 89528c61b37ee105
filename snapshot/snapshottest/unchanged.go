package snapshottest

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot"
)

func testUnchanged(t *testing.T, open Opener) {
	s := open(t)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		write(t, r+"/d/a", "a")
		write(t, r+"/e/sub/b", "b")
	})
	top := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Chmod(r+"/d/a", 0o644)) // copied up, but nothing is new
		write(t, r+"/e/sub/tmp", "")
		must(t, os.Remove(r+"/e/sub/tmp"))
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		must(t, err)
		must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: r + "/d/sock"}), unix.Close(fd))
	})
	wantNames(t, s, top, "")
	if !top.Empty {
		t.Error("the layer is not empty")
	}
	Compare(t, s, on(nil, base, top))
}

// A directory that is removed and made again as it was is in no layer, nor are those
// above it.
func testRemade(t *testing.T, open Opener) {
	s := open(t)
	when := time.Unix(1e9, 7)
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		must(t, os.MkdirAll(r+"/c/empty", 0o755))
		write(t, r+"/d/e/full/f", "f")
		must(t, os.Chtimes(r+"/d/e/full/f", when, when))
	})
	same := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.Remove(r+"/c/empty"), os.Mkdir(r+"/c/empty", 0o755))
		must(t, os.RemoveAll(r+"/d/e/full"))
		write(t, r+"/d/e/full/f", "f")
		must(t, os.Chtimes(r+"/d/e/full/f", when, when))
	})
	wantNames(t, s, same, "")
	Compare(t, s, on(nil, base, same))
	other := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		must(t, os.RemoveAll(r+"/c"), os.MkdirAll(r+"/c/empty", 0o755))
		must(t, os.RemoveAll(r+"/d/e/full"), os.Mkdir(r+"/d/e/full", 0o755))
	})
	wantNames(t, s, other, "d d/e d/e/full -d/e/full/f")
	Compare(t, s, on(nil, base, other))
}

// Times of whole seconds may have been cut off: then files of one time and size are
// the same only if their contents are.
func testWholeSeconds(t *testing.T, open Opener) {
	s := open(t)
	when := time.Unix(1e9, 0)
	large := strings.Repeat("large", 100_000)
	put := func(path, text string) {
		must(t, os.RemoveAll(path))
		write(t, path, text)
		must(t, os.Chtimes(path, when, when))
	}
	base := build(t, s, nil, snapshot.CommitOptions{}, func(r string) {
		for _, f := range []string{"/same", "/first", "/last"} {
			put(r+f, large)
		}
		must(t, os.Symlink("here", r+"/link"), os.Symlink("here", r+"/other"))
		for _, l := range []string{"/link", "/other"} {
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, r+l, []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}, unix.AT_SYMLINK_NOFOLLOW))
		}
	})
	top := build(t, s, on(nil, base), snapshot.CommitOptions{}, func(r string) {
		put(r+"/same", large)
		put(r+"/first", "x"+large[1:])
		put(r+"/last", large[1:]+"x")
		must(t, os.Remove(r+"/link"), os.Symlink("here", r+"/link"))
		must(t, os.Remove(r+"/other"), os.Symlink("away", r+"/other"))
		for _, l := range []string{"/link", "/other"} {
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, r+l, []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}, unix.AT_SYMLINK_NOFOLLOW))
		}
	})
	wantNames(t, s, top, "first last other")
	Compare(t, s, on(nil, base, top))
}
