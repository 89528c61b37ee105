package credentials

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/registry/errdef"
)

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
	k := New("")
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
		c, err := k.Get(host, repo)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Auth.Username + ":" + c.Auth.Password + c.Auth.IdentityToken; got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
		for _, secret := range []string{"s1", "s2", "s3", "s4", "s5", "s6", "idtok"} {
			if strings.Contains(strings.ReplaceAll(c.About, home, ""), secret) {
				t.Errorf("%s: the description shows the secret: %s", at, c.About)
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
	k := New(dir)
	for host, want := range map[string][2]string{
		"good.example": {"helped:s7", `user "helped"`},
		"tok.example":  {":s8", "a token"},
		"none.example": {":", "none"},
		"bad.example":  {":", "docker-credential-fake"},
		"gone.example": {":", "docker-credential-absent"},
	} {
		c, err := k.Get(host, "x")
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Auth.Username + ":" + c.Auth.Password + c.Auth.IdentityToken; got != want[0] || !strings.Contains(c.About, want[1]) {
			t.Errorf("%s: %q, %q; want %q", host, got, c.About, want)
		}
		if strings.Contains(c.About, "leak-me") || strings.Contains(c.About, "s7") {
			t.Errorf("%s: the description shows a secret: %s", host, c.About)
		}
	}
}

func TestKeychainBrokenFile(t *testing.T) {
	home := isolate(t)
	path := writeFileT(t, filepath.Join(home, "auth.json"), `{"auths": {"x": {"auth": "hunter2"`, 0o600)
	t.Setenv("REGISTRY_AUTH_FILE", path)
	_, err := New("").Get("x", "y")
	if !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}
