package source

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
)

const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY

// git runs the program git for one source. It sees no configuration of this
// machine or of the repository's, runs no hooks, asks nobody for passwords, and
// uses no protocols but those that are named.
type git struct {
	program   string
	dir       string   // where it runs
	env       []string // the same for all commands
	config    []string // "key=value"
	protocols []string
	hide      []string // texts that no message may show
	remote    string
	retry     Retry
}

// GitMissingError says that the program git is not installed.
type GitMissingError struct{ Err error }

// Error implements error.
func (e *GitMissingError) Error() string {
	return "git repositories need the program git: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *GitMissingError) Unwrap() error { return e.Err }

// GitError says that git failed.
type GitError struct {
	Remote, Command, Stderr string
	Err                     error
}

// Error implements error.
func (e *GitError) Error() string {
	msg := strings.TrimSpace(e.Stderr)
	if msg == "" {
		msg = e.Err.Error()
	}
	return fmt.Sprintf("git %s %s: %s", e.Command, e.Remote, msg)
}

// Unwrap returns the cause.
func (e *GitError) Unwrap() error { return e.Err }

// Unauthorized reports whether the server wants to be told who asks.
func (e *GitError) Unauthorized() bool {
	for _, s := range []string{"could not read Username", "Authentication failed", "Permission denied (publickey", "error: 403", "error: 401"} {
		if strings.Contains(e.Stderr, s) {
			return true
		}
	}
	return false
}

// git prepares commands for a source.
func (r *Remote) git(ctx context.Context, src *dag.GitSource) (*git, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, &GitMissingError{Err: err}
	}
	g := &git{
		program: program, dir: r.path(gitRepos), remote: src.Remote, retry: r.o.Retry,
		protocols: []string{"http", "https", "git", "ssh"},
		config: []string{
			"core.hooksPath=/dev/null", "core.fsmonitor=false", "credential.helper=", "protocol.ext.allow=never",
			"gc.auto=0", "maintenance.auto=false", "advice.detachedHead=false", "init.defaultBranch=master",
			"core.logAllRefUpdates=false", "http.lowSpeedLimit=1000", "http.lowSpeedTime=60", "core.autocrlf=false",
		},
		env: []string{
			"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=/dev/null", "GIT_TERMINAL_PROMPT=0",
			"GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1", "GIT_CEILING_DIRECTORIES=" + filepath.Dir(r.path(gitRepos)),
			"GIT_SSH_COMMAND=" + r.sshCommand(), "GIT_LFS_SKIP_SMUDGE=1",
		},
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			g.env = append(g.env, name+"="+v)
		}
	}
	if r.o.SSHAuthSock != "" {
		g.env = append(g.env, "SSH_AUTH_SOCK="+r.o.SSHAuthSock)
	}
	if err := r.localConfig(g, src); err != nil {
		return nil, err
	}
	return g, r.gitAuth(ctx, g, src)
}

// localConfig lets git read a repository of this machine that belongs to another
// user, which it only does if its own configuration says so.
func (r *Remote) localConfig(g *git, src *dag.GitSource) error {
	if !strings.HasPrefix(src.Remote, "file://") {
		g.env = append(g.env, "GIT_CONFIG_GLOBAL=/dev/null")
		return nil
	}
	if !r.localGit() {
		return fmt.Errorf("repository %s: a Dockerfile cannot name repositories of this machine", src.Remote)
	}
	g.protocols = append(g.protocols, "file")
	config := r.path("git", "config")
	g.env = append(g.env, "GIT_CONFIG_GLOBAL="+config)
	if b, err := os.ReadFile(config); err == nil && string(b) == localGitConfig {
		return nil
	}
	return files.Replace(config, []byte(localGitConfig), files.Replacement{})
}

const localGitConfig = "[safe]\n\tdirectory = *\n[core]\n\thooksPath = /dev/null\n"

// sshCommand is how git calls ssh: new hosts are remembered in the store, those
// that the user knows must be the same.
func (r *Remote) sshCommand() string {
	known := []string{r.path("git", "known_hosts")}
	if home, err := os.UserHomeDir(); err == nil {
		known = append(known, filepath.Join(home, ".ssh", "known_hosts"))
	}
	var quoted []string
	for _, k := range known {
		quoted = append(quoted, strconv.Quote(k))
	}
	return "ssh -F /dev/null -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=accept-new -o 'UserKnownHostsFile=" +
		strings.ReplaceAll(strings.Join(quoted, " "), "'", "") + "'"
}

// gitAuth adds the secrets for a repository. They go through the environment, for
// arguments can be read by everybody.
func (r *Remote) gitAuth(ctx context.Context, g *git, src *dag.GitSource) error {
	u, err := url.Parse(src.Remote)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil
	}
	if pw, ok := u.User.Password(); ok && pw != "" {
		g.hide = append(g.hide, pw, url.QueryEscape(pw))
	}
	for _, s := range []struct {
		id    string
		token bool
	}{{"GIT_AUTH_HEADER." + u.Host, false}, {"GIT_AUTH_TOKEN." + u.Host, true}, {"GIT_AUTH_HEADER", false}, {"GIT_AUTH_TOKEN", true}} {
		value, err := r.secret(ctx, s.id)
		if err != nil {
			return err
		}
		if value == "" {
			continue
		}
		g.hide = append(g.hide, value)
		if s.token {
			value = "basic " + base64.StdEncoding.EncodeToString([]byte("x-access-token:"+value))
			g.hide = append(g.hide, value)
		}
		g.config = append(g.config, "http."+authScope(src.Remote)+".extraheader=Authorization: "+value)
		return nil
	}
	return nil
}

// authScope is where a secret is sent: to the repository alone, but on GitHub to
// all of it, for submodules.
func authScope(remote string) string {
	for _, all := range []string{"https://github.com/", "https://www.github.com/"} {
		if strings.HasPrefix(remote, all) {
			return all
		}
	}
	return remote
}

// at returns the same for commands on a repository, with a work tree or without.
func (g *git) at(gitDir, workTree string) *git {
	c := *g
	c.env = append(slices.Clone(g.env), "GIT_DIR="+gitDir)
	c.dir = gitDir
	if workTree != "" {
		c.env = append(c.env, "GIT_WORK_TREE="+workTree)
		c.dir = workTree
	}
	return &c
}

// allow returns the same for commands that use some protocols only.
func (g *git) allow(protocols ...string) *git {
	c := *g
	c.protocols = protocols
	return &c
}

// run runs a command and returns what it prints. Servers that cannot make shallow
// clones are asked again for all of it.
func (g *git) run(ctx context.Context, args ...string) (string, error) {
	out, err := g.ask(ctx, args...)
	var ge *GitError
	if errors.As(err, &ge) && slices.Contains(args, depthOne) &&
		(strings.Contains(ge.Stderr, "shallow") || strings.Contains(ge.Stderr, "depth")) {
		return g.ask(ctx, slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == depthOne })...)
	}
	return out, err
}

// ask runs a command, again if it is a server that fails for a while.
func (g *git) ask(ctx context.Context, args ...string) (out string, err error) {
	if args[0] != "fetch" && args[0] != "ls-remote" {
		return g.once(ctx, args...)
	}
	err = g.retry.again(ctx, func() error {
		out, err = g.once(ctx, args...)
		return err
	})
	return out, err
}

const depthOne = "--depth=1"

func (g *git) once(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, g.program, args...)
	cmd.Dir = g.dir
	cmd.Env = append(slices.Clone(g.env), "GIT_ALLOW_PROTOCOL="+strings.Join(g.protocols, ":"))
	for i, kv := range g.config {
		// The key may hold "=": a URL; the value begins behind the last dot's name.
		key, value := splitConfig(kv)
		cmd.Env = append(cmd.Env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, value))
	}
	cmd.Env = append(cmd.Env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(g.config)))
	var stdout bytes.Buffer
	stderr := &tail{}
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	// git starts helpers: all of them end with it. And git ends with this process,
	// however that ends, for the lock on the repository does; the signal comes when
	// the thread that started git ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if err == nil {
		return stdout.String(), nil
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return "", &GitError{Remote: Redacted(g.remote), Command: args[0], Stderr: g.redact(string(stderr.b)), Err: err}
}

// splitConfig splits "section.name=value" where a URL stands in between.
func splitConfig(kv string) (key, value string) {
	if i := strings.Index(kv, ".extraheader="); i >= 0 {
		i += len(".extraheader")
		return kv[:i], kv[i+1:]
	}
	key, value, _ = strings.Cut(kv, "=")
	return key, value
}

// redact hides secrets in what git says.
func (g *git) redact(s string) string {
	for _, h := range g.hide {
		s = strings.ReplaceAll(s, h, "xxxxx")
	}
	return strings.ReplaceAll(s, g.remote, Redacted(g.remote))
}

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - 8<<10; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}
