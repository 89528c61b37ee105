package rootless

// #include "enter.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// variables are those of enter.h.
func variables() []string {
	return []string{C.ROOTLESS_HOW, C.ROOTLESS_UIDS, C.ROOTLESS_GIDS, C.ROOTLESS_MOUNTS}
}

// Entered reports whether this process is in a user namespace that Enter made.
func Entered() bool { return C.rootless_entered() != 0 }

// Init takes away what Enter told this process by its environment, and reports
// what went wrong when it was to enter a user namespace. It belongs at the
// beginning of main, and of TestMain in packages that call Enter.
func Init() error {
	how, asked := os.LookupEnv(C.ROOTLESS_HOW)
	if !asked {
		return nil
	}
	for _, name := range variables() {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	if Entered() {
		return nil
	}
	rung := Subuid
	if how == "single" {
		rung = Single
	}
	return &EnterError{Rung: rung, Reason: strings.TrimSpace(C.GoString(C.rootless_failure())), Hint: NamespaceHint()}
}

// EnterError says why no user namespace could be entered.
type EnterError struct {
	Rung   Isolation // that was tried
	Reason string
	Hint   string // what would lift it; may be empty
}

// Error implements error.
func (e *EnterError) Error() string { return "enter a user namespace: " + e.Reason }

// Enter puts the process of an ordinary user onto the rung that was chosen. If a
// user namespace has to be made for it, Enter does not return, unless it fails:
// the program is executed anew with its arguments, and Current is then Subuid or
// Single. Otherwise it returns at once: for root, in a namespace that was entered
// before, and for Chroot. Mounts gives the process a mount namespace of its own, too.
func (w Way) Enter(mounts bool) error {
	if w.uids == "" {
		return nil
	}
	env := append(os.Environ(), w.environ(mounts)...)
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("enter a user namespace: %w", err)
	}
	err = syscall.Exec("/proc/self/exe", os.Args, env)
	return errors.Join(fmt.Errorf("enter a user namespace: execute %s anew", exe), err)
}

// environ is what enter.c is told.
func (w Way) environ(mounts bool) []string {
	if w.uids == "" {
		return nil
	}
	env := []string{C.ROOTLESS_HOW + "=" + w.how, C.ROOTLESS_UIDS + "=" + w.uids, C.ROOTLESS_GIDS + "=" + w.gids}
	if mounts {
		env = append(env, C.ROOTLESS_MOUNTS+"=1")
	}
	return env
}

// Command prepares a child of this program that is on the rung, with a mount
// namespace of its own. It has this process's environment.
func (w Way) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), w.environ(true)...)
	if w.uids == "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	}
	return cmd
}
