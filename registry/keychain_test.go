package registry

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeFileT(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func basic(user, pass string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + pass))
}

// isolate keeps the machine's own credentials and settings out of a test.
func isolate(t *testing.T) (home string) {
	t.Helper()
	home = t.TempDir()
	t.Setenv("HOME", home)
	for _, v := range []string{"DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_AUTH_CONFIG", mirrorEnv} {
		t.Setenv(v, "")
	}
	t.Setenv("CONTAINERS_REGISTRIES_CONF", filepath.Join(home, "none"))
	return home
}

func TestKeychainFiles(t *testing.T) {
	home := isolate(t)
	writeFileT(t, filepath.Join(home, ".docker/config.json"), `{"auths":{
		"https://index.docker.io/v1/":{"auth":"`+basic("hub", "s1")+`"},
		"reg.example:5000":{"auth":"`+basic("reg", "s2")+`"},
		"https://legacy.example/v1/":{"auth":"`+basic("legacy", "s3")+`"},
		"token.example":{"identitytoken":"idtok"}}}`, 0o600)
	writeFileT(t, filepath.Join(home, ".config/containers/auth.json"), `{"auths":{
		"quay.example/team":{"auth":"`+basic("team", "s4")+`"},
		"quay.example":{"auth":"`+basic("all", "s5")+`"},
		"only.example/a/b":{"auth":"`+basic("deep", "s6")+`"}}}`, 0o600)
	k := newKeychain("")
	for at, want := range map[string]string{
		"index.docker.io library/alpine": "hub:s1",
		"reg.example:5000 x":             "reg:s2",
		"legacy.example x":               "legacy:s3",
		"token.example x":                ":idtok",
		"quay.example team/app":          "team:s4",
		"quay.example other/app":         "all:s5",
		"only.example a/b/c":             "deep:s6",
		"only.example a/c":               ":",
		"none.example x":                 ":",
	} {
		host, repo, _ := strings.Cut(at, " ")
		c, err := k.get(host, repo)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.auth.Username + ":" + c.auth.Password + c.auth.IdentityToken; got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
		for _, secret := range []string{"s1", "s2", "s3", "s4", "s5", "s6", "idtok"} {
			if strings.Contains(strings.ReplaceAll(c.about, home, ""), secret) {
				t.Errorf("%s: the description shows the secret: %s", at, c.about)
			}
		}
	}
}

func TestKeychainHelper(t *testing.T) {
	home := isolate(t)
	bin := filepath.Join(home, "bin")
	writeFileT(t, filepath.Join(bin, "docker-credential-fake"), `#!/bin/sh
read host
case $host in
good.example) echo '{"ServerURL":"good.example","Username":"helped","Secret":"s7"}';;
tok.example) echo '{"Username":"<token>","Secret":"s8"}';;
none.example) echo 'credentials not found in native keychain'; exit 1;;
*) echo '{"Secret":"leak-me"}'; exit 3;;
esac
`, 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	dir := filepath.Join(home, "cfg")
	writeFileT(t, filepath.Join(dir, "config.json"), `{"credsStore":"fake","credHelpers":{"gone.example":"absent"}}`, 0o600)
	k := newKeychain(dir)
	for host, want := range map[string][2]string{
		"good.example": {"helped:s7", `user "helped"`},
		"tok.example":  {":s8", "a token"},
		"none.example": {":", "none"},
		"bad.example":  {":", "docker-credential-fake"},
		"gone.example": {":", "docker-credential-absent"},
	} {
		c, err := k.get(host, "x")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.auth.Username + ":" + c.auth.Password + c.auth.IdentityToken; got != want[0] || !strings.Contains(c.about, want[1]) {
			t.Errorf("%s: %q, %q; want %q", host, got, c.about, want)
		}
		if strings.Contains(c.about, "leak-me") || strings.Contains(c.about, "s7") {
			t.Errorf("%s: the description shows a secret: %s", host, c.about)
		}
	}
}

func TestKeychainBrokenFile(t *testing.T) {
	home := isolate(t)
	path := writeFileT(t, filepath.Join(home, "auth.json"), `{"auths": {"x": {"auth": "hunter2"`, 0o600)
	t.Setenv("REGISTRY_AUTH_FILE", path)
	_, err := newKeychain("").get("x", "y")
	if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}
