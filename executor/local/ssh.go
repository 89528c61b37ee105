package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
	fileowner "layered.build/builder/snapshot/owner"
)

// ssh mounts a socket at which an agent answers while the process runs.
func (m *mounter) ssh(ctx context.Context, mount dag.Mount) (sandbox.Mount, bool, error) {
	if ok, err := m.hasAgent(ctx, mount); !ok || err != nil {
		return sandbox.Mount{}, false, err
	}
	if m.sockets == nil {
		s, err := files.NewScratch(m.w.folder(runFolder), "ssh-")
		if err != nil {
			return sandbox.Mount{}, false, err
		}
		m.sockets = s
		m.undo = append(m.undo, s.Remove)
	}
	dir, err := os.MkdirTemp(m.sockets.Dir(), "")
	if err != nil {
		return sandbox.Mount{}, false, err
	}
	l, err := listen(dir)
	if err != nil {
		return sandbox.Mount{}, false, fmt.Errorf("listen for the ssh agent: %w", err)
	}
	path := filepath.Join(dir, "agent")
	err = errors.Join(fileowner.Lchown(path, uint32(number(mount.UID, 0)), uint32(number(mount.GID, 0))), unix.Chmod(path, uint32(number(mount.Mode, 0o600))&0o777))
	if err != nil {
		return sandbox.Mount{}, false, errors.Join(err, l.Close())
	}
	m.undo = append(m.undo, forward(l, func() (io.ReadWriteCloser, error) { return m.w.build.Agents.Dial(ctx, mount.ID) }))
	return sandbox.Mount{HostPath: path}, true, nil
}

// hasAgent tries the agent once, so that one that does not answer is an error of
// the step's mount and not of some program in it.
func (m *mounter) hasAgent(ctx context.Context, mount dag.Mount) (bool, error) {
	err := fs.ErrNotExist
	if m.w.build.Agents != nil {
		var c io.ReadWriteCloser
		if c, err = m.w.build.Agents.Dial(ctx, mount.ID); err == nil {
			return true, c.Close()
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && mount.Required:
		return false, &executor.MissingAgentError{ID: mount.ID}
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// listen makes the socket "agent" in dir. The path of a store may be longer than
// the 107 bytes that an address has room for.
func listen(dir string) (*net.UnixListener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/agent", d.Fd()), Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false) // by a path that is gone then; the folder is removed
	}
	return l, err
}

// forward connects everybody who comes to l with a connection of dial's, until
// the function that it returns is called, which ends them all and waits.
func forward(l net.Listener, dial func() (io.ReadWriteCloser, error)) (stop func() error) {
	f := &forwarder{dial: dial, open: map[io.Closer]bool{}}
	f.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			f.wg.Go(func() { f.serve(c) })
		}
	})
	return func() error {
		err := l.Close()
		f.closeAll()
		f.wg.Wait()
		return err
	}
}

// forwarder is one socket's connections.
type forwarder struct {
	dial func() (io.ReadWriteCloser, error)
	wg   sync.WaitGroup

	mu     sync.Mutex // guards the following
	closed bool
	open   map[io.Closer]bool
}

// serve connects one client; when either side ends, both do.
func (f *forwarder) serve(client net.Conn) {
	defer client.Close()
	server, err := f.dial()
	if err != nil {
		return
	}
	if !f.track(client, server) {
		server.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(server, client)
		server.Close()
	})
	_, _ = io.Copy(client, server)
	client.Close()
	wg.Wait()
	f.forget(client, server)
}

func (f *forwarder) track(cs ...io.Closer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	for _, c := range cs {
		f.open[c] = true
	}
	return true
}

func (f *forwarder) forget(cs ...io.Closer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range cs {
		delete(f.open, c)
	}
}

func (f *forwarder) closeAll() {
	f.mu.Lock()
	f.closed = true
	cs := f.open
	f.open = map[io.Closer]bool{}
	f.mu.Unlock()
	for c := range cs {
		_ = c.Close()
	}
}
