package credentials

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStoreInFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	path := writeFileT(t, filepath.Join(dir, "config.json"), "\xef\xbb\xbf"+`{"proxies":{"x":1},"auths":{"old":{"auth":"eA=="}}}`, 0o600)
	file, err := DockerFile()
	if err != nil || string(file) != path {
		t.Fatalf("%s, %v", file, err)
	}
	if helper, err := file.Put(t.Context(), "127.0.0.1:5000", "me", "pw"); err != nil || helper != "" {
		t.Fatalf("%q, %v", helper, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"proxies"`, `"old"`, `"127.0.0.1:5000"`, "bWU6cHc="} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("config.json lacks %s: %s", want, raw)
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode of config.json: %v %v", fi.Mode(), err)
	}
	if c, err := New("", nil).Get(t.Context(), "127.0.0.1:5000", "x"); err != nil || c.Auth.Password != "pw" {
		t.Errorf("found %q, %v", c.About, err)
	}
	if _, err := file.Remove(t.Context(), "127.0.0.1:5000"); err != nil {
		t.Fatal(err)
	}
	if raw, err = os.ReadFile(path); err != nil || strings.Contains(string(raw), "127.0.0.1") || !strings.Contains(string(raw), `"old"`) {
		t.Errorf("logout leaves %s, %v", raw, err)
	}
	writeFileT(t, path, `{"auths":{"https://r.example/v2/":{"auth":"eA=="},"index.docker.io":{},"r.example.org":{}}}`, 0o600)
	for _, name := range []string{"r.example", "https://index.docker.io/v1/"} { // written as other names of them
		if _, err := file.Remove(t.Context(), name); err != nil {
			t.Errorf("log out of %s: %v", name, err)
		}
	}
	if raw, err = os.ReadFile(path); err != nil || strings.Contains(string(raw), "v2") || strings.Contains(string(raw), "docker") || !strings.Contains(string(raw), "r.example.org") {
		t.Errorf("logout leaves %s, %v", raw, err)
	}
	writeFileT(t, path, `{"auths":{},}`, 0o600)
	if _, err := file.Put(t.Context(), "x", "me", "pw"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if raw, err = os.ReadFile(path); err != nil || string(raw) != `{"auths":{},}` {
		t.Errorf("became %s, %v", raw, err)
	}
}

// TestRemoveNothing proves that a logout where there is no login writes nothing.
func TestRemoveNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docker", "config.json")
	if _, err := File(path).Remove(t.Context(), "r.example"); !errors.Is(err, ErrNoLogin) {
		t.Errorf("logged out of nothing: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("logout made a folder: %v", err)
	}
}

func TestStoreInHelper(t *testing.T) {
	home := isolate(t)
	bin, kept := filepath.Join(home, "bin"), filepath.Join(home, "kept")
	writeFileT(t, filepath.Join(bin, "docker-credential-keep"), `#!/bin/sh
case $1 in
store) cat > `+kept+`;;
get) cat > /dev/null; cat `+kept+`;;
erase) rm `+kept+` || { echo credentials not found in native keychain; exit 1; };;
esac
`, 0o755)
	writeFileT(t, filepath.Join(bin, "docker-credential-broken"), "#!/bin/sh\ncat; echo secret hunter2; exit 3\n", 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	path := writeFileT(t, filepath.Join(home, ".docker/config.json"), `{"credsStore":"keep","credHelpers":{"broken.example":"broken","file.example":""}}`, 0o600)
	file := File(path)
	if helper, err := file.Put(t.Context(), "x.example", "me", "s3cret-pw"); err != nil || helper != "keep" {
		t.Fatalf("%q, %v", helper, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(raw), "s3cret") || !strings.Contains(string(raw), `"x.example": {}`) {
		t.Errorf("config.json is %s, %v", raw, err)
	}
	if c, err := New("", nil).Get(t.Context(), "x.example", "x"); err != nil || c.Auth.Username != "me" || c.Auth.Password != "s3cret-pw" {
		t.Errorf("found %q, %v", c.About, err)
	}
	if helper, err := file.Remove(t.Context(), "x.example"); err != nil || helper != "keep" {
		t.Errorf("%q, %v", helper, err)
	}
	if _, err := file.Remove(t.Context(), "x.example"); !errors.Is(err, ErrNoLogin) {
		t.Errorf("the second time: %v", err)
	}
	if _, err := os.Stat(kept); err == nil {
		t.Error("logout leaves the password")
	}
	if _, err := file.Put(t.Context(), "broken.example", "me", "pw"); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "docker-credential-broken") {
		t.Errorf("a helper that fails: %v", err)
	}
	if helper, err := file.Put(t.Context(), "file.example", "me", "pw"); err != nil || helper != "" {
		t.Errorf("a registry without a helper: %q, %v", helper, err)
	}
}
