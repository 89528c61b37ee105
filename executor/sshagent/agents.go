// Package sshagent serves SSH agents to build steps: forwarded sockets of the
// user's agents, and keys from files held in this process.
package sshagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"layered.build/builder/executor"
)

// DefaultID is the id of an agent that is not named otherwise.
const DefaultID = "default"

// maxKey bounds a key file's size, as BuildKit does.
const maxKey = 100 << 10

// Source is where an agent comes from.
type Source struct {
	// Paths are the socket of an agent, or files of private keys. Empty means the
	// agent of $SSH_AUTH_SOCK.
	Paths []string
	// Raw hands the socket through without looking at what is said: any protocol
	// may be spoken, and keys may be added.
	Raw bool
}

// Agents are agents by id. They are safe for concurrent use.
type Agents map[string]*Agent

// Agent is one agent: a socket, or keys.
type Agent struct {
	socket string
	raw    bool
	keys   agent.Agent
}

var _ executor.SSHAgents = Agents(nil)

// Open checks a source and reads its keys. getenv is os.Getenv in the program.
func Open(src Source, getenv func(string) string) (*Agent, error) {
	paths := src.Paths
	if len(paths) == 0 || len(paths) == 1 && paths[0] == "" {
		socket := getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return nil, errors.New("$SSH_AUTH_SOCK is not set: no agent is running")
		}
		paths = []string{socket}
	}
	a := &Agent{raw: src.Raw}
	for _, p := range paths {
		if err := a.add(p); err != nil {
			return nil, err
		}
	}
	if a.socket != "" && len(paths) > 1 {
		return nil, errors.New("give one socket, or keys only")
	}
	if a.raw && a.socket == "" {
		return nil, errors.New("raw needs a socket")
	}
	return a, nil
}

// add takes a socket or a key file.
func (a *Agent) add(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket != 0 {
		a.socket = path
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return err
	}
	if len(data) > maxKey {
		return fmt.Errorf("%s is larger than %d bytes: not a key", path, maxKey)
	}
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return fmt.Errorf("key %s has a passphrase: add it to an agent (ssh-add %s) and use that", path, path)
	}
	if err != nil {
		return fmt.Errorf("read key %s: %w", path, err)
	}
	if a.keys == nil {
		a.keys = agent.NewKeyring()
	}
	if err := a.keys.Add(agent.AddedKey{PrivateKey: key, Comment: path}); err != nil {
		return fmt.Errorf("read key %s: %w", path, err)
	}
	return nil
}

// Dial implements executor.SSHAgents. Every call is a connection of its own; the
// caller closes it. An unknown id is an error that matches fs.ErrNotExist.
func (as Agents) Dial(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	a, ok := as[id]
	if !ok {
		return nil, fmt.Errorf("ssh agent %s: %w", id, fs.ErrNotExist)
	}
	conn, err := a.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("ssh agent %s: %w", id, err)
	}
	return conn, nil
}

func (a *Agent) dial(ctx context.Context) (io.ReadWriteCloser, error) {
	if a.socket == "" {
		return serve(a.keys, nil), nil
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	conn, err := d.DialContext(ctx, "unix", a.socket)
	if err != nil || a.raw {
		return conn, err
	}
	return serve(agent.NewClient(conn), conn), nil
}

// served is the near end of a connection that an agent in this process answers.
type served struct {
	net.Conn
	upstream io.Closer
	done     chan struct{}
}

// serve answers on one end of a pipe for as long as the other is open.
func serve(a agent.Agent, upstream io.Closer) *served {
	near, far := net.Pipe()
	s := &served{Conn: near, upstream: upstream, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		_ = agent.ServeAgent(usable{a}, far) // ends with the connection
		far.Close()
	}()
	return s
}

// Close ends the connection and waits until the agent has noticed.
func (s *served) Close() error {
	err := s.Conn.Close()
	if s.upstream != nil {
		err = errors.Join(err, s.upstream.Close())
	}
	<-s.done
	return err
}

// usable lets a build step use keys and not change them.
type usable struct{ agent.Agent }

var errReadOnly = errors.New("build steps may use keys, not change them")

func (usable) Add(agent.AddedKey) error   { return errReadOnly }
func (usable) Remove(ssh.PublicKey) error { return errReadOnly }
func (usable) RemoveAll() error           { return errReadOnly }
func (usable) Lock([]byte) error          { return errReadOnly }
func (usable) Unlock([]byte) error        { return errReadOnly }

// SignWithFlags implements agent.ExtendedAgent: which hash an RSA signature uses.
func (u usable) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	if e, ok := u.Agent.(agent.ExtendedAgent); ok {
		return e.SignWithFlags(key, data, flags)
	}
	return u.Sign(key, data)
}

// Extension implements agent.ExtendedAgent; there are none.
func (usable) Extension(string, []byte) ([]byte, error) { return nil, agent.ErrExtensionUnsupported }

// Parse reads a value of --ssh: "default", "ID", or "ID=SOCKET|KEY[,KEY…][,raw=true]".
func Parse(value string) (id string, src Source, err error) {
	id, rest, given := strings.Cut(value, "=")
	if id == "" {
		return "", src, errors.New("the id is missing")
	}
	if strings.Contains(id, ",") {
		return "", src, fmt.Errorf("%q is not an id", id)
	}
	if !given {
		return id, src, nil
	}
	for part := range strings.SplitSeq(rest, ",") {
		if raw, ok := strings.CutPrefix(part, "raw="); ok {
			if raw != "true" && raw != "false" {
				return "", src, fmt.Errorf("raw=%s: want true or false", raw)
			}
			src.Raw = raw == "true"
			continue
		}
		src.Paths = append(src.Paths, part)
	}
	return id, src, nil
}
