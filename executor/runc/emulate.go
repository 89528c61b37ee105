package runc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runc/libcontainer"

	"layered.build/builder/executor/emulate"
	"layered.build/builder/executor/fakeid"
	"layered.build/builder/snapshot/owner"
)

// emulate puts the filter on whose calls are emulated, and begins to answer them. The
// container's first process waits meanwhile.
func (r *run) emulate(p *libcontainer.Process) error {
	listener, err := r.loader.Listen(emulate.Filter())
	if err != nil {
		return err
	}
	pid, err := p.Pid()
	if err != nil {
		return errors.Join(fmt.Errorf("find container's process: %w", err), listener.Close())
	}
	u := r.spec.User
	r.emulation, err = emulate.Start(emulate.Process{Listener: listener, PID: pid, Creds: fakeid.New(u.UID, u.GID, u.Groups), Upper: r.spec.Root.Upper})
	return err
}

// endEmulation waits until nothing of the container can ask any more.
func (r *run) endEmulation() error {
	if r.emulation == nil {
		return nil
	}
	err := r.emulation.Wait()
	if upper := r.spec.Root.Upper; upper != "" {
		err = errors.Join(err, owner.WriteSide(upper, r.emulation.Owners()))
	}
	return err
}

// withHome adds the home directory of the user that the process believes to be.
// libcontainer would take root's.
func (r *run) withHome(env []string) []string {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		return env
	}
	home := "/"
	if passwd, err := securejoin.SecureJoin(r.path("root"), "/etc/passwd"); err == nil {
		f, err := os.Open(passwd)
		if err == nil {
			defer f.Close()
			users, err := user.ParsePasswdFilter(io.LimitReader(f, 8<<20), func(u user.User) bool { return u.Uid == int(r.spec.User.UID) })
			if err == nil && len(users) > 0 {
				home = users[0].Home
			}
		}
	}
	return append(slices.Clone(env), "HOME="+home)
}
