package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"layered.build/builder/fixtures"
)

// TestRemote runs testdata/remote/*.txtar: builds that take files from elsewhere.
// In every script $SITE is a web server on the folder "site" of the script, and
// the file requests.log has a line for each request. Files have an ETag of their
// content; those below site/private need the token "geheim", those
// below site/untimed have no Last-Modified.
func TestRemote(t *testing.T) {
	fixtures.NeedOverlay(t)
	fixtures.NeedProgram(t, "git")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/remote",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BUILDER_ROOT", filepath.Join(env.WorkDir, "store"))
			env.Setenv("BUILDER_PROGRESS", "plain")
			env.Setenv("HOME", env.WorkDir)
			site := newSite(env.WorkDir)
			env.Defer(site.Close)
			env.Setenv("SITE", site.URL)
			return nil
		},
	})
}

func newSite(dir string) *httptest.Server {
	var mu sync.Mutex // guards requests.log
	files := http.FileServer(http.Dir(filepath.Join(dir, "site")))
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if f, err := os.OpenFile(filepath.Join(dir, "requests.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
			fmt.Fprintf(f, "%s %s\n", r.Method, r.URL.Path)
			f.Close()
		}
		if strings.HasPrefix(r.URL.Path, "/private/") && r.Header.Get("Authorization") != "Bearer geheim" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		if fi, err := os.Stat(filepath.Join(dir, "site", filepath.FromSlash(r.URL.Path))); err == nil && !fi.IsDir() {
			w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(fi.Size(), fi.ModTime().Unix())))
		}
		if strings.HasPrefix(r.URL.Path, "/untimed/") {
			b, err := os.ReadFile(filepath.Join(dir, "site", filepath.FromSlash(r.URL.Path)))
			if err != nil {
				http.NotFound(w, r)
				return
			}
			w.Write(b)
			return
		}
		files.ServeHTTP(w, r)
	}))
}
