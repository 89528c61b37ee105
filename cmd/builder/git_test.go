package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"layered.build/builder/fixtures"
)

// TestGitServers runs testdata/git/*.txtar: repositories on real servers, which
// are git's own program for http behind basic authentication, and OpenSSH's sshd.
// In every script $GITHTTP and $GITSSH are URLs of the folder "repos" of the
// script. Below $GITHTTP/private the user x-access-token with the password
// "geheim" is asked for; sshd knows the key $KEY.
func TestGitServers(t *testing.T) {
	fixtures.NeedOverlay(t)
	fixtures.NeedRealRoot(t, "sshd wants /run/sshd to be root's")
	fixtures.NeedProgram(t, "git", "ssh", "ssh-keygen", "ssh-agent")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/git",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BUILDER_ROOT", filepath.Join(env.WorkDir, "store"))
			env.Setenv("BUILDER_PROGRESS", "plain")
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(env.WorkDir, "gitconfig"))
			repos := filepath.Join(env.WorkDir, "repos")
			if err := os.MkdirAll(repos, 0o755); err != nil {
				return err
			}
			site, err := gitHTTP(repos, filepath.Join(env.WorkDir, "gitconfig"))
			if err != nil {
				return err
			}
			env.Defer(site.Close)
			env.Setenv("GITHTTP", site.URL)
			key := filepath.Join(env.WorkDir, "key")
			env.Setenv("KEY", key)
			addr, stop, err := startSSHD(filepath.Join(env.WorkDir, "sshd"), key)
			if err != nil {
				return err
			}
			env.Defer(stop)
			env.Setenv("GITSSH", "ssh://root@"+addr+repos)
			return nil
		},
	})
}

// gitHTTP serves the repositories below dir as git's own server does.
func gitHTTP(dir, config string) (*httptest.Server, error) {
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("find git-http-backend: %w", err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + config},
	}
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if strings.HasPrefix(r.URL.Path, "/private") && (user != "x-access-token" || password != "geheim") {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	})), nil
}

// startSSHD serves ssh on the loopback interface, by an sshd for each connection with
// keys of its own below dir, that lets root in with the key that it makes at the path
// key.
func startSSHD(dir, key string) (addr string, stop func(), err error) {
	sshd, err := exec.LookPath("/usr/sbin/sshd")
	if err != nil {
		return "", nil, fmt.Errorf("openssh-server (make deps-test installs it): %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, err
	}
	host := filepath.Join(dir, "host")
	for _, k := range []string{host, key} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", k).CombinedOutput(); err != nil {
			return "", nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	// sshd wants an empty folder of that name, and the system may not have begun
	// the service that makes it.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		return "", nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				socket, err := c.(*net.TCPConn).File()
				if err != nil {
					fmt.Fprintln(log, err)
					return
				}
				defer socket.Close()
				cmd := exec.Command(sshd, "-i", "-e", "-f", "/dev/null", "-h", host,
					"-o", "PidFile=none", "-o", "UsePAM=no", "-o", "StrictModes=no",
					"-o", "PasswordAuthentication=no", "-o", "AuthorizedKeysFile="+key+".pub")
				cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, log
				if err := cmd.Run(); err != nil {
					fmt.Fprintln(log, err)
				}
			})
		}
	})
	return l.Addr().String(), func() {
		l.Close()
		all.Wait()
		log.Close()
	}, nil
}
