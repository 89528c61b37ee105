package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/planner/dag"
)

// TestGitHostile: paths and URLs of submodules that lead out or run something are
// refused, and nothing is written elsewhere.
func TestGitHostile(t *testing.T) {
	outside := t.TempDir()
	inner := newRepo(t, "sha1")
	inner.commit("file", "inner\n", 0o644)
	head := inner.git("rev-parse", "HEAD")
	for name, c := range map[string]struct{ modules, path string }{
		"path through a link": {"[submodule \"m\"]\n\tpath = link/mod\n\turl = " + inner.url + "\n", "link/mod"},
		"name that leads out": {"[submodule \"../../../m\"]\n\tpath = mod\n\turl = " + inner.url + "\n", "mod"},
		"command as URL":      {"[submodule \"m\"]\n\tpath = mod\n\turl = ext::touch " + outside + "/owned\n", "mod"},
		"option as URL":       {"[submodule \"m\"]\n\tpath = mod\n\turl = --upload-pack=touch " + outside + "/owned\n", "mod"},
		"command as update":   {"[submodule \"m\"]\n\tpath = mod\n\turl = " + inner.url + "\n\tupdate = !touch " + outside + "/owned\n", "mod"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := newRepo(t, "sha1")
			if err := os.WriteFile(filepath.Join(repo.dir, ".gitmodules"), []byte(c.modules), 0o644); err != nil {
				t.Fatal(err)
			}
			blob := repo.git("hash-object", "-w", ".gitmodules")
			if err := os.Remove(filepath.Join(repo.dir, ".gitmodules")); err != nil {
				t.Fatal(err)
			}
			repo.git("update-index", "--add", "--cacheinfo", "100644,"+blob+",.gitmodules")
			if strings.HasPrefix(c.path, "link/") {
				target := filepath.Join(repo.dir, "target")
				if err := os.WriteFile(target, []byte(outside), 0o644); err != nil {
					t.Fatal(err)
				}
				// The link and what lies behind it cannot be in one tree, so the link
				// is in the tree and the path in .gitmodules alone.
				repo.git("update-index", "--add", "--cacheinfo", "120000,"+repo.git("hash-object", "-w", "target")+",link")
				repo.git("update-index", "--add", "--cacheinfo", "160000,"+head+",other")
			} else {
				repo.git("update-index", "--add", "--cacheinfo", "160000,"+head+","+c.path)
			}
			repo.done("hostile")
			r := newRemote(t, RemoteOptions{})
			remote := openRemote(t, r, gitSrc(repo.url, ""))
			_, err := remote.Files(t.Context())
			t.Logf("%v", err)
			if err == nil {
				t.Errorf("accepted: %v", listFiles(t, remote))
			}
			if left, _ := os.ReadDir(outside); len(left) != 0 {
				t.Errorf("written outside: %v", left)
			}
		})
	}
}

// TestGitErrors: messages name the repository and the ref, not the secret.
func TestGitErrors(t *testing.T) {
	repo := newRepo(t, "sha1")
	one := repo.commit("foo", "one\n", 0o644)
	private := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "no", http.StatusUnauthorized)
	})
	for _, c := range []struct {
		src  *dag.Source
		want string
	}{
		{gitSrc(repo.url, "nope"), "repository does not contain ref nope"},
		{gitSrc(repo.url, one[:8]), "repository does not contain ref " + one[:8]},
		{gitSrc("http://127.0.0.1:1/x.git", "v1"), "Failed to connect to 127.0.0.1"},
		{gitSrc(private.URL+"/x.git", "v1"), "git ls-remote " + private.URL + "/x.git: "},
		{gitSrc(strings.Replace(private.URL, "//", "//me:geheim@", 1)+"/x.git", "v1"), "//xxxxx:xxxxx@127"},
		{gitSrc("file://"+repo.dir+"/.git", ""), "a Dockerfile cannot name repositories of this machine"},
		{&dag.Source{Git: &dag.GitSource{Remote: repo.url, Checksum: "00"}}, "expected checksum to match 00, got " + one},
		{&dag.Source{Git: &dag.GitSource{Remote: repo.url, Ref: one, Checksum: "00"}}, "expected checksum to match 00, got " + one},
	} {
		secrets := fakeSecrets{"GIT_AUTH_TOKEN": "geheim"}
		_, err := newRemote(t, RemoteOptions{Secrets: secrets}).Open(t.Context(), c.src)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("want %s\ngot  %v", c.want, err)
		}
	}
	// x-access-token:geheim
	if log := private.requests(); !strings.Contains(log, "authorization basic eC1hY2Nlc3MtdG9rZW46Z2VoZWlt") {
		t.Errorf("the token was not sent:\n%s", log)
	}
	missing := gitSrc(repo.url, strings.Repeat("0", 40))
	_, err := openRemote(t, newRemote(t, RemoteOptions{}), missing).Files(t.Context())
	if err == nil || !strings.Contains(err.Error(), "does not contain commit 0000") {
		t.Error(err)
	}
}

// TestGitMissing: without git, the message says what to install.
func TestGitMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := newRemote(t, RemoteOptions{}).Open(t.Context(), gitSrc("http://127.0.0.1:1/x.git", ""))
	var missing *GitMissingError
	if !errors.As(err, &missing) {
		t.Error(err)
	}
}

// TestGitLocal: what the user names on the command line may be a repository of
// this machine, also of another user.
func TestGitLocal(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("foo", "one\n", 0o644)
	if os.Geteuid() == 0 {
		if out, err := exec.Command("chown", "-R", "1234:1234", repo.dir).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	r := newRemote(t, RemoteOptions{LocalGit: true})
	src := gitSrc("file://"+repo.dir+"/.git", "master")
	if got := listFiles(t, openRemote(t, r, src)); !slices.Equal(got, []string{"foo 0644 one"}) {
		t.Error(got)
	}
}

// TestGitSSH: ssh is called without the user's configuration, with the agent, and
// asks nothing.
func TestGitSSH(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("foo", "one\n", 0o644)
	bin, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	script := "#!/bin/sh\necho \"$@ agent=$SSH_AUTH_SOCK\" >>" + log + "\nfor last; do :; done\nGIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' exec sh -c \"$last\"\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	dir := t.TempDir()
	r := newRemote(t, RemoteOptions{Dir: dir, SSHAuthSock: "/agent"})
	for _, url := range []string{"git@example.org:" + repo.dir + "/.git", "ssh://git@example.org:22" + repo.dir + "/.git"} {
		if got := listFiles(t, openRemote(t, r, gitSrc(url, "master"))); !slices.Equal(got, []string{"foo 0644 one"}) {
			t.Error(got)
		}
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-F /dev/null", "BatchMode=yes", "StrictHostKeyChecking=accept-new", dir + "/git/known_hosts", "agent=/agent"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("ssh was called without %s:\n%s", want, b)
		}
	}
}

// TestGitCancel: a build that ends takes git and its helpers along.
func TestGitCancel(t *testing.T) {
	newRepo(t, "sha1") // skips without git
	release, askedOnce := make(chan struct{}), make(chan struct{}, 8)
	s := newSite(t, func(http.ResponseWriter, *http.Request) { askedOnce <- struct{}{}; <-release })
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	var wg sync.WaitGroup
	wg.Go(func() { <-askedOnce; cancel(why) })
	_, err := newRemote(t, RemoteOptions{}).Open(ctx, gitSrc(s.URL+"/x.git", "master"))
	if !errors.Is(err, why) {
		t.Error(err)
	}
	wg.Wait()
	left, _ := exec.Command("pgrep", "-f", s.URL).Output()
	if len(left) != 0 {
		t.Errorf("processes left: %s", left)
	}
}

// TestGitConcurrently: builds that want the same and different commits of one
// repository at once do not disturb each other.
func TestGitConcurrently(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("foo", "one\n", 0o644)
	repo.git("tag", "v1")
	repo.commit("foo", "two\n", 0o644)
	want := map[string]string{"v1": "foo 0644 one", "master": "foo 0644 two"}
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 6 {
		ref := []string{"v1", "master"}[i%2]
		r := newRemote(t, RemoteOptions{Dir: dir})
		wg.Go(func() {
			remote, err := r.Open(t.Context(), gitSrc(repo.url, ref))
			if err != nil {
				t.Error(err)
				return
			}
			tree, err := remote.Files(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			f, err := tree.Open("foo")
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			if b, err := io.ReadAll(f); err != nil || "foo 0644 "+strings.TrimSpace(string(b)) != want[ref] {
				t.Errorf("%s: %q, %v", ref, b, err)
			}
		})
	}
	wg.Wait()
	left, err := filepath.Glob(filepath.Join(dir, gitCheckouts, "tmp-*"))
	if err != nil || len(left) != 0 {
		t.Error(left, err)
	}
}

// TestGitExpire: repositories and checkouts go when nobody used them for long, and
// stay while they are used.
func TestGitExpire(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("foo", "one\n", 0o644)
	dir := t.TempDir()
	r := newRemote(t, RemoteOptions{Dir: dir})
	src := gitSrc(repo.url, "")
	e := openRemote(t, r, src)
	listFiles(t, e)
	count := func(sub string) int {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	_, done, err := r.fetchGit(t.Context(), src.Git, &gitCommit{Object: repo.git("rev-parse", "HEAD")})
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	r.expire(later)
	if count(gitRepos) != 2 || count(gitCheckouts) != 1 {
		t.Errorf("removed while they are used: %d, %d left", count(gitRepos), count(gitCheckouts))
	}
	done()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.expire(later)
	if count(gitRepos) != 0 || count(gitCheckouts) != 0 {
		t.Errorf("left: %d, %d", count(gitRepos), count(gitCheckouts))
	}
	if got := listFiles(t, openRemote(t, newRemote(t, RemoteOptions{Dir: dir}), src)); !slices.Equal(got, []string{"foo 0644 one"}) {
		t.Error(got)
	}
}
