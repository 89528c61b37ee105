package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"layered.build/builder/planner/dag"
)

// testRepo is a repository that a dumb web server serves.
type testRepo struct {
	t   *testing.T
	dir string
	url string
}

func newRepo(t *testing.T, format string) *testRepo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("the program git is not installed")
	}
	r := &testRepo{t: t, dir: t.TempDir()}
	r.git("init", "-q", "-b", "master", "--object-format="+format)
	s := httptest.NewServer(http.FileServer(http.Dir(r.dir)))
	t.Cleanup(s.Close)
	r.url = s.URL + "/.git"
	return r
}

func (r *testRepo) git(args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b", "GIT_AUTHOR_DATE=2001-02-03T04:05:06Z", "GIT_COMMITTER_DATE=2001-02-03T04:05:06Z",
		"GIT_ALLOW_PROTOCOL=file:http")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes a file and commits it.
func (r *testRepo) commit(name, content string, mode os.FileMode) string {
	r.t.Helper()
	p := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		r.t.Fatal(err)
	}
	r.git("add", "-A")
	return r.done("add " + name)
}

func (r *testRepo) done(msg string) string {
	r.t.Helper()
	r.git("commit", "-q", "-m", msg)
	r.git("update-server-info")
	return r.git("rev-parse", "HEAD")
}

func gitSrc(url, ref string) *dag.Source {
	return &dag.Source{Git: &dag.GitSource{Remote: url, Ref: ref, Submodules: true}}
}

// TestGit: branch, tag, annotated tag, commit, default branch; both object
// formats; modes do not depend on the umask.
func TestGit(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for _, format := range []string{"sha1", "sha256"} {
		t.Run(format, func(t *testing.T) {
			repo := newRepo(t, format)
			one := repo.commit("foo", "one\n", 0o600)
			repo.git("tag", "v1")
			repo.git("tag", "-a", "-m", "annotated", "a1")
			repo.git("branch", "side/way")
			if err := os.Symlink("foo", filepath.Join(repo.dir, "link")); err != nil {
				t.Fatal(err)
			}
			two := repo.commit("run.sh", "two\n", 0o700)
			all := []string{"foo 0644 one", "link -> foo", "run.sh 0755 two"}
			dir := t.TempDir()
			for ref, want := range map[string][]string{
				"": all, "master": all, "refs/heads/master": all, "HEAD": all, two: all,
				"v1": all[:1], "refs/tags/v1": all[:1], "a1": all[:1], "side/way": all[:1], "heads/side/way": all[:1], one: all[:1],
				strings.ToUpper(one): all[:1],
			} {
				r := newRemote(t, RemoteOptions{Dir: dir})
				if got := listFiles(t, openRemote(t, r, gitSrc(repo.url, ref))); !slices.Equal(got, want) {
					t.Errorf("%q: %v", ref, got)
				}
			}
			r := newRemote(t, RemoteOptions{Dir: dir})
			same := openRemote(t, r, gitSrc(repo.url, one)).Name
			for _, ref := range []string{"v1", "a1", "side/way"} {
				if openRemote(t, r, gitSrc(repo.url, ref)).Name != same {
					t.Errorf("%s has another name than its commit", ref)
				}
			}
		})
	}
}

// TestGitFetchesOnce: a commit that is here is not fetched again, and one by id
// needs no server.
func TestGitFetchesOnce(t *testing.T) {
	repo := newRepo(t, "sha1")
	one := repo.commit("foo", "one\n", 0o644)
	dir := t.TempDir()
	listFiles(t, openRemote(t, newRemote(t, RemoteOptions{Dir: dir}), gitSrc(repo.url, "master")))
	if err := os.RemoveAll(filepath.Join(repo.dir, ".git", "objects")); err != nil {
		t.Fatal(err)
	}
	src := gitSrc(repo.url, "master")
	if got := listFiles(t, openRemote(t, newRemote(t, RemoteOptions{Dir: dir}), src)); !slices.Equal(got, []string{"foo 0644 one"}) {
		t.Error(got)
	}
	gone := gitSrc("http://127.0.0.1:1/x.git", one)
	if got := listFiles(t, openRemote(t, newRemote(t, RemoteOptions{Dir: dir}), gone)); !slices.Equal(got, []string{"foo 0644 one"}) {
		t.Errorf("a checkout of the same commit was not used: %v", got)
	}
}

// TestGitMovedBranch: a branch that was rewritten is fetched again; a branch that
// moves between the question and the fetch gives the commit that was named.
func TestGitMovedBranch(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("foo", "one\n", 0o644)
	dir := t.TempDir()
	r := newRemote(t, RemoteOptions{Dir: dir})
	before := openRemote(t, r, gitSrc(repo.url, "master"))
	repo.git("checkout", "-q", "--orphan", "other")
	repo.commit("foo", "two\n", 0o644)
	repo.git("tag", "old", "master")
	repo.git("branch", "-f", "master")
	repo.git("update-server-info")
	if got := listFiles(t, before); !slices.Equal(got, []string{"foo 0644 one"}) {
		t.Errorf("moved: %v", got)
	}
	after := openRemote(t, newRemote(t, RemoteOptions{Dir: dir}), gitSrc(repo.url, "master"))
	if got := listFiles(t, after); after.Name == before.Name || !slices.Equal(got, []string{"foo 0644 two"}) {
		t.Errorf("rewritten: %v", got)
	}
}

// TestGitKeepGitDir: .git is whole, clean and knows neither this machine nor the
// password.
func TestGitKeepGitDir(t *testing.T) {
	for _, format := range []string{"sha1", "sha256"} {
		repo := newRepo(t, format)
		one := repo.commit("foo", "one\n", 0o644)
		repo.git("tag", "-a", "-m", "x", "v1")
		repo.commit("foo", "two\n", 0o644)
		url := strings.Replace(repo.url, "//", "//me:geheim@", 1)
		for _, ref := range []string{"v1", one, ""} {
			store := t.TempDir()
			src := gitSrc(url, ref)
			src.Git.KeepGitDir = true
			dir, err := newRemote(t, RemoteOptions{Dir: store}).CheckoutGit(t.Context(), src.Git)
			if err != nil {
				t.Fatal(err)
			}
			in := &testRepo{t: t, dir: dir}
			if s := in.git("status", "--short"); s != "" {
				t.Errorf("%s %q: git status: %s", format, ref, s)
			}
			if s := in.git("log", "--format=%H"); ref != "" && s != one {
				t.Errorf("%s %q: git log: %s", format, ref, s)
			}
			if ref == "v1" && in.git("cat-file", "-t", "v1") != "tag" {
				t.Error("the annotated tag is not kept")
			}
			if s := in.git("remote", "get-url", "origin"); strings.Contains(s, "geheim") {
				t.Error(s)
			}
			out, _ := exec.Command("grep", "-rl", "-e", "geheim", "-e", store, dir).Output()
			if len(out) != 0 {
				t.Errorf("secrets or paths of this machine in %s", out)
			}
		}
	}
}

// TestGitSubdir: a subdirectory is taken, and a symlink does not lead out.
func TestGitSubdir(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("sub/deep/foo", "one\n", 0o644)
	for _, l := range [][2]string{{"/etc", "out"}, {"sub", "in"}, {"../..", "up"}} {
		if err := os.Symlink(l[0], filepath.Join(repo.dir, l[1])); err != nil {
			t.Fatal(err)
		}
	}
	repo.git("add", "-A")
	repo.done("links")
	r := newRemote(t, RemoteOptions{})
	src := gitSrc(repo.url, "")
	src.Git.Subdir = "sub"
	got := openRemote(t, r, src)
	if f := listFiles(t, got); !slices.Equal(f, []string{"deep/foo 0644 one"}) {
		t.Error(f)
	}
	if got.Name == openRemote(t, r, gitSrc(repo.url, "")).Name {
		t.Error("the subdirectory does not count")
	}
	for _, bad := range []string{"out", "in", "in/deep", "up", "../..", "gone", "sub/deep/foo", ".git"} {
		src.Git.Subdir = bad
		_, err := openRemote(t, r, src).Files(t.Context())
		var se *SubdirError
		if !errors.As(err, &se) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestGitTime: the commit's time is known, and given to the files on request.
func TestGitTime(t *testing.T) {
	repo := newRepo(t, "sha1")
	repo.commit("dir/foo", "one\n", 0o644)
	want := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	r := newRemote(t, RemoteOptions{})
	src := gitSrc(repo.url, "")
	if got, err := r.GitTime(t.Context(), src.Git); err != nil || !got.Equal(want) {
		t.Error(got, err)
	}
	src.Git.CommitTimes = true
	tree, err := openRemote(t, r, src).Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"dir", "dir/foo"} {
		if e, err := tree.Lstat(p); err != nil || !e.ModTime.Equal(want) {
			t.Error(p, e.ModTime, err)
		}
	}
}

// TestGitSubmodules: submodules are fetched, also nested and with relative URLs,
// and leave no .git; those of this machine are refused.
func TestGitSubmodules(t *testing.T) {
	inner := newRepo(t, "sha1")
	inner.commit("file", "inner\n", 0o644)
	repo := newRepo(t, "sha1")
	repo.git("submodule", "--quiet", "add", inner.url, "mod")
	repo.commit("foo", "one\n", 0o644)
	r := newRemote(t, RemoteOptions{})
	src := gitSrc(repo.url, "")
	with := openRemote(t, r, src)
	got := listFiles(t, with)
	if len(got) != 3 || !strings.HasPrefix(got[0], ".gitmodules ") || got[2] != "mod/file 0644 inner" {
		t.Error(got)
	}
	src.Git.Submodules = false
	without := openRemote(t, r, src)
	if got := listFiles(t, without); len(got) != 2 || with.Name == without.Name {
		t.Error(got)
	}

	local := newRepo(t, "sha1")
	local.git("submodule", "--quiet", "add", "file://"+inner.dir+"/.git", "mod")
	local.done("local")
	_, err := openRemote(t, r, gitSrc(local.url, "")).Files(t.Context())
	if err == nil || !strings.Contains(err.Error(), "transport 'file' not allowed") {
		t.Errorf("a submodule of this machine: %v", err)
	}
}

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
