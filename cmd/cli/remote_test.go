package cli

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"layered.build/builder/executor/sshagent"
	"layered.build/builder/fixtures"
)

// TestGitAgent: git over ssh is given the keys of --ssh default, at a socket that
// ends with the job; without them, the user's agent.
func TestGitAgent(t *testing.T) {
	fixtures.NeedProgram(t, "ssh-keygen")
	t.Setenv("SSH_AUTH_SOCK", "/the/users")
	if sock, err := (&job{}).gitAgent(); err != nil || sock != "/the/users" {
		t.Error(sock, err)
	}
	key := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a, err := sshagent.Open(sshagent.Source{Paths: []string{key}}, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	j := &job{agents: sshagent.Agents{"default": a}}
	sock, err := j.gitAgent()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := agent.NewClient(conn).List()
	if err != nil || len(keys) != 1 {
		t.Error(keys, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := j.closeRemote(); err != nil {
		t.Error(err)
	}
	if exists(filepath.Dir(sock)) {
		t.Error("the socket's folder is left behind")
	}
}
