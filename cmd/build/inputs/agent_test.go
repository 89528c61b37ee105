package inputs

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
	if sock, stop, err := gitAgent(Spec{AgentSocket: "/the/users"}); err != nil || sock != "/the/users" || stop() != nil {
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
	sock, stop, err := gitAgent(Spec{AgentSocket: "/the/users", Agents: sshagent.Agents{"default": a}})
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
	if err := stop(); err != nil {
		t.Error(err)
	}
	if exists(filepath.Dir(sock)) {
		t.Error("the socket's folder is left behind")
	}
}
