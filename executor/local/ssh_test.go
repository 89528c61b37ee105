package local

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"layered.build/builder/executor"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/executor/sshagent"
	"layered.build/builder/planner/dag"
)

// keyFile writes a new private key.
func keyFile(t *testing.T) (path string, pub ssh.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if pub, err = ssh.NewPublicKey(public); err != nil {
		t.Fatal(err)
	}
	return path, pub
}

// TestAgentMount lets a process use the agent at its socket: keys can be listed
// and sign, and cannot be changed; afterwards nothing of it is left.
func TestAgentMount(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	path, pub := keyFile(t)
	a, err := sshagent.Open(sshagent.Source{Paths: []string{path}}, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	s.worker.build.Agents = sshagent.Agents{"k": a}
	uid, gid, mode := 7, 8, 0o640
	run := runStep("use", scratchStep())
	op := run.Op.(*dag.Exec)
	op.Mounts = append(op.Mounts,
		dag.Mount{Type: dag.MountSSH, Input: -1, ID: "k", Dest: "/agent", UID: &uid, GID: &gid, Mode: &mode, Required: true},
		dag.Mount{Type: dag.MountSSH, Input: -1, ID: "none", Dest: "/other"})
	var socket string
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"use": func(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			if len(spec.Mounts) != 1 || spec.Mounts[0].Dest != "/agent" {
				return sandbox.Exit{}, errors.New("want one mount: the optional agent does not exist")
			}
			socket = spec.Mounts[0].HostPath
			return sandbox.Exit{}, useAgent(t, socket, pub)
		},
	}
	s.solve(t, run)
	if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func useAgent(t *testing.T, socket string, pub ssh.PublicKey) error {
	fi, err := os.Stat(socket)
	if err != nil {
		return err
	}
	if got := fi.Mode(); got != fs.ModeSocket|0o640 {
		t.Errorf("mode %v", got)
	}
	for range 3 { // one connection a use
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		client := agent.NewClient(conn)
		keys, err := client.List()
		if err != nil || len(keys) != 1 {
			t.Errorf("keys %v: %v", keys, err)
		}
		sig, err := client.Sign(pub, []byte("data"))
		if err == nil {
			err = pub.Verify([]byte("data"), sig)
		}
		if err != nil {
			t.Errorf("sign: %v", err)
		}
		if client.RemoveAll() == nil {
			t.Error("a step may remove keys")
		}
		conn.Close()
	}
	left, err := net.Dial("unix", socket) // never closed by the process
	if err == nil {
		t.Cleanup(func() { left.Close() })
	}
	return err
}

// TestAgentForwarding passes through the socket of another agent, and closes every
// connection to it.
func TestAgentForwarding(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	path, pub := keyFile(t)
	keys, err := sshagent.Open(sshagent.Source{Paths: []string{path}}, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	all := sshagent.Agents{"k": keys}
	stop := forward(l, func() (io.ReadWriteCloser, error) { return all.Dial(t.Context(), "k") })
	fwd, err := sshagent.Open(sshagent.Source{}, func(string) string { return filepath.Join(dir, "s") })
	if err != nil {
		t.Fatal(err)
	}
	s.worker.build.Agents = sshagent.Agents{"default": fwd}
	run := runStep("use", scratchStep())
	mode := 0o640
	run.Op.(*dag.Exec).Mounts = append(run.Op.(*dag.Exec).Mounts,
		dag.Mount{Type: dag.MountSSH, Input: -1, ID: "default", Dest: "/agent", Mode: &mode, Required: true})
	s.sandbox.run = map[string]func(context.Context, *sandbox.Spec) (sandbox.Exit, error){
		"use": func(ctx context.Context, spec *sandbox.Spec) (sandbox.Exit, error) {
			return sandbox.Exit{}, useAgent(t, spec.Mounts[0].HostPath, pub)
		},
	}
	s.solve(t, run)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestMissingAgent(t *testing.T) {
	needRoot(t)
	s := newSite(t)
	run := runStep("x", scratchStep())
	op := run.Op.(*dag.Exec)
	op.Mounts = append(op.Mounts, dag.Mount{Type: dag.MountSSH, Input: -1, ID: "k", Dest: "/s", Required: true})
	_, err := s.newBuild().Solve(t.Context(), []dag.Edge{{Step: run}})
	var missing *executor.MissingAgentError
	if !errors.As(err, &missing) || missing.ID != "k" || !strings.Contains(err.Error(), "ssh agent k: not found") {
		t.Errorf("got %v", err)
	}
}
