package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Probe reports whether overlays of directories below dir can be mounted, by mount
// in place of Spec.Mount, and whether whiteouts work in them. It does so on a
// thread of its own, whose mounts end with it, in a temporary directory of dir,
// which it removes.
func Probe(dir string, mount func(Spec, string) error) error {
	tmp, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	err = onThread(func() error { return probe(tmp, mount) })
	// What an overlay makes in its working directory may belong to nobody else.
	_ = os.Chmod(filepath.Join(tmp, "work", "work"), 0o700)
	return errors.Join(err, os.RemoveAll(tmp))
}

// ProbeMemory is Probe in a tmpfs that nobody else sees: it tells what the kernel
// allows, on any file system, and leaves no trace.
func ProbeMemory(mount func(Spec, string) error) error {
	return onThread(func() error {
		dir := os.TempDir()
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700"); err != nil {
			return fmt.Errorf("mount tmpfs: %w", err)
		}
		return probe(dir, mount)
	})
}

// onThread runs fn on a thread that has a mount namespace of its own and ends.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			// The main thread does not end; while it is locked here another one is used.
			done <- onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("make mount namespace: %w", err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			done <- fmt.Errorf("make mounts private: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

func probe(dir string, mount func(Spec, string) error) error {
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(at(d), 0o700); err != nil {
			return err
		}
	}
	if err := os.WriteFile(at("lower/gone"), nil, 0o600); err != nil {
		return err
	}
	if err := mount(Spec{Lower: []string{at("lower")}, Upper: at("upper"), Work: at("work")}, at("merged")); err != nil {
		return err
	}
	err := os.Remove(at("merged/gone"))
	var st unix.Stat_t
	if err == nil {
		err = unix.Lstat(at("upper/gone"), &st)
	}
	if err == nil && (st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0) {
		err = errors.New("whiteouts are no character devices 0/0")
	}
	return errors.Join(err, unix.Unmount(at("merged"), unix.MNT_DETACH))
}
