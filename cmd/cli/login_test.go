package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStoreAuth(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	path := filepath.Join(dir, "config.json")
	if err := os.WriteFile(path, []byte(`{"proxies":{"x":1},"auths":{"old":{"auth":"eA=="}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storeAuth("127.0.0.1:5000", "me", "pw"); err != nil {
		t.Fatal(err)
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
	if _, err := storeAuth("127.0.0.1:5000", "", ""); err != nil {
		t.Fatal(err)
	}
	if raw, err = os.ReadFile(path); err != nil || strings.Contains(string(raw), "bWU6cHc=") {
		t.Errorf("logout leaves the password: %v %s", err, raw)
	}
	if err := os.WriteFile(path, []byte(`{"credsStore":"pass"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := storeAuth("x", "me", "pw"); err == nil {
		t.Error("a password is written beside a credential helper")
	}
}
