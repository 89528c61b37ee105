package source

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
