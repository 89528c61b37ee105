package source

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

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
