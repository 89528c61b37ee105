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
	done := make(chan error, 1)
	go probeOnThread(tmp, mount, done)
	err = <-done
	// What an overlay makes in its working directory may belong to nobody else.
	_ = os.Chmod(filepath.Join(tmp, "work", "work"), 0o700)
	return errors.Join(err, os.RemoveAll(tmp))
}

func probeOnThread(dir string, mount func(Spec, string) error, done chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		// The main thread does not end; while it is locked here another one is used.
		inner := make(chan error, 1)
		go probeOnThread(dir, mount, inner)
		done <- <-inner
		runtime.UnlockOSThread()
		return
	}
	done <- probe(dir, mount)
}

func probe(dir string, mount func(Spec, string) error) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
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
