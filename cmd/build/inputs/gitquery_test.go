package inputs

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/executor/source"
	"layered.build/builder/fixtures"
	"layered.build/builder/parser"
	"layered.build/builder/planner"
)

// gitScript runs git commands, one a line, in a folder that a web server serves.
func gitScript(t *testing.T, dir, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s.URL
}

func revParse(t *testing.T, dir, ref string) string {
	t.Helper()
	out, err := exec.Command("git", "-C", dir, "-c", "safe.directory=*", "rev-parse", ref).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestGitQueryString: every form of URL that BuildKit's test of this name has, as
// a context and as the source of an ADD.
func TestGitQueryString(t *testing.T) {
	fixtures.NeedProgram(t, "git")
	mod := gitScript(t, t.TempDir(), "git init -q\necho 123 >file\ngit add file\ngit commit -qm initial\ngit update-server-info")
	dir := t.TempDir()
	url := gitScript(t, dir, `
		git init -q -b master
		echo base >foo
		git submodule --quiet add `+mod+`/.git submod
		git add foo submod
		git commit -qm initial
		git tag v0.0.1
		git branch base
		echo feature >foo
		mkdir sub
		echo subfeature >sub/foo
		git add foo sub
		git commit -qm feature
		git branch feature
		git checkout -q -B master base
		echo v0.0.2 >foo
		git add foo
		git commit -qm v0.0.2
		git tag v0.0.2
		echo latest >foo
		git add foo
		git commit -qm latest
		git tag latest
		git update-server-info`) + "/.git"
	v2, latest := revParse(t, dir, "v0.0.2"), revParse(t, dir, "latest")
	const gone = "no such file or directory"
	cases := []struct{ name, url, file, want, err string }{
		{"tag with invalid commit", "?tag=v0.0.2&commit=" + latest, "foo", "", "expected checksum to match"},
		{"old style ref", "#v0.0.2", "foo", "v0.0.2", ""},
		{"querystring ref", "?ref=base", "foo", "base", ""},
		{"querystring branch", "?branch=base", "foo", "base", ""},
		{"querystring invalid branch", "?branch=invalid", "foo", "", "repository does not contain ref"},
		{"tag as branch", "?branch=v0.0.2", "foo", "", "repository does not contain ref"},
		{"allowed mixed refs", "?tag=v0.0.2#refs/tags/v0.0.2", "foo", "v0.0.2", ""},
		{"v2 by commit", "?commit=" + latest, "foo", "latest", ""},
		{"v2 by commit (wrong short)", "?commit=" + v2[:8], "foo", "", "expected checksum to match"},
		{"v2 by commit (short)", "?commit=" + latest[:8], "foo", "latest", ""},
		{"v2 ref by commit", "?ref=" + v2, "foo", "v0.0.2", ""},
		{"v2 ref by commit (short)", "?ref=" + v2[:8], "foo", "", "repository does not contain ref"},
		{"tag with commit", "?tag=v0.0.2&commit=" + v2, "foo", "v0.0.2", ""},
		{"commit with commit", "?ref=" + v2 + "&commit=" + v2, "foo", "v0.0.2", ""},
		{"latest with commit", "?commit=" + latest, "foo", "latest", ""},
		{"mismatch refs", "?tag=v0.0.2#refs/heads/master", "foo", "", "ref conflicts"},
		{"sub old-style", "#feature:sub", "foo", "subfeature", ""},
		{"sub query", "?subdir=sub&ref=feature", "foo", "subfeature", ""},
		{"withgit", "?keep-git-dir=true", ".git/HEAD", latest, ""},
		{"withgitandtag", "?tag=v0.0.2&keep-git-dir=true", ".git/HEAD", v2, ""},
		{"withgit-default", "", ".git/HEAD", "", gone},
		{"withgit-valueless", "?keep-git-dir&submodules", ".git/HEAD", latest, ""},
		{"withgit-forbidden", "?keep-git-dir=false", ".git/HEAD", "", gone},
		{"withsubmod", "", "submod/file", "123", ""},
		{"withsubmodset", "?submodules=true", "submod/file", "123", ""},
		{"withsubmodempty", "?submodules", "submod/file", "123", ""},
		{"withoutsubmod", "?submodules=false", "submod/file", "", gone},
		// and those that only fetch a commit
		{"fetch by commit", "?fetch-by-commit&commit=" + v2, "foo", "v0.0.2", ""},
		{"fetch by commit of a ref", "?fetch-by-commit&branch=any&commit=" + v2, "foo", "v0.0.2", ""},
		{"fetch by short commit", "?fetch-by-commit&commit=" + v2[:8], "foo", "", "fetch-by-commit requires a full commit SHA"},
		{"commit's time", "?mtime=commit", "foo", "latest", ""},
	}
	for kind, parse := range map[string]func(string) (*parser.GitRef, bool, error){"add": parser.ParseGit, "context": parser.ParseGitContext} {
		store := t.TempDir()
		for _, c := range cases {
			got, err := readGit(t, store, url+c.url, c.file, parse)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s %s: %q, %v", kind, c.name, got, err)
			}
		}
	}
}

// readGit reads a file of what a URL means.
func readGit(t *testing.T, store, url, file string, parse func(string) (*parser.GitRef, bool, error)) (string, error) {
	ref, ok, err := parse(url)
	if err != nil || !ok {
		return "", err
	}
	r, err := source.NewRemote(source.RemoteOptions{Dir: store})
	if err != nil {
		return "", err
	}
	defer r.Close()
	dir, err := r.CheckoutGit(t.Context(), planner.GitSource(ref))
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	return strings.TrimSpace(string(b)), err
}
