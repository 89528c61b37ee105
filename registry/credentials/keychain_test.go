package credentials

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/progress"
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
	k := New("", nil)
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
		c, err := k.Get(t.Context(), host, repo)
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
	k := New(dir, nil)
	for host, want := range map[string][2]string{
		"good.example": {"helped:s7", `user "helped"`},
		"tok.example":  {":s8", "a token"},
		"none.example": {":", "none"},
		"bad.example":  {":", "docker-credential-fake"},
		"gone.example": {":", "docker-credential-absent"},
	} {
		c, err := k.Get(t.Context(), host, "x")
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

// What is wrong in a file is told with its line, without what is in it, and the rest counts.
func TestKeychainBrokenFile(t *testing.T) {
	good := `"good.example":{"auth":"` + basic("good", "s1") + `"}`
	for name, tc := range map[string]struct{ text, warning, good, bad string }{
		"truncated":              {`{"auths": {"bad.example": {"auth": "hunter2"`, ":1: ends too early: the file is not used", "none", "none"},
		"trailing comma":         {"{\n\"auths\":{" + good + ",}}", ":2: invalid character '}' looking for beginning of object key string: the file is not used", "none", "none"},
		"no object":              {`["hunter2"]`, ":1: no JSON object: the file is not used", "none", "none"},
		"byte order mark":        {"\xef\xbb\xbf{\"auths\":{" + good + "}}", ":1: begins with a byte order mark", `user "good"`, "none"},
		"no colon":               {"{\"auths\":{\n" + good + ",\n\"bad.example\":{\"auth\":\"aHVudGVyMg==\"}}}", `:3: the login for bad.example: "auth" is not the base64 of USER:PASSWORD: it is not used`, `user "good"`, ":3: the login for bad.example"},
		"no base64":              {"{\"auths\":{\n\"bad.example\":{\"auth\":\"hunter2!\"},\n" + good + "}}", `:2: the login for bad.example: "auth" is not base64: it is not used`, `user "good"`, ":2: the login for bad.example"},
		"a number":               {"{\"auths\":{\n\n\"bad.example\":{\"auth\":2},\n" + good + "}}", ":3: the login for bad.example: no object of strings: it is not used", `user "good"`, ":3: the login for bad.example"},
		"not even entries":       {"{\n\"auths\":[\"hunter2\"]}", ":2: auths is not what it should be: it is not used", "none", "none"},
		"helper of a wrong kind": {"{\"auths\":{" + good + "},\n\"credsStore\":{\"hunter2\":1}}", ":2: credsStore is not what it should be: it is not used", `user "good"`, "none"},
		"empty":                  {"", "", "none", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			home := isolate(t)
			path := writeFileT(t, filepath.Join(home, ".docker/config.json"), tc.text, 0o600)
			var warnings []string
			k := New("", func(text string) { warnings = append(warnings, text) })
			if len(warnings) > 0 {
				t.Errorf("before anything is wanted: %q", warnings)
			}
			for host, want := range map[string]string{"good.example": tc.good, "bad.example": tc.bad} {
				c, err := k.Get(t.Context(), host, "y")
				if err != nil || !strings.Contains(c.About, want) {
					t.Errorf("%s: %q, %v; want %q", host, c.About, err, want)
				}
			}
			said := strings.Join(warnings, "\n")
			if strings.Contains(said, "hunter2") || strings.Contains(said, "aHVudGVyMg") {
				t.Errorf("the warning shows the password: %s", said)
			}
			if tc.warning == "" && said != "" || tc.warning != "" && (len(warnings) != 1 || !strings.Contains(said, path+tc.warning)) {
				t.Errorf("warnings %q, want one: %s%s", warnings, path, tc.warning)
			}
		})
	}
}

// Folders that are none count as empty.
func TestKeychainFolderIsNone(t *testing.T) {
	for _, v := range []string{"HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"} {
		isolate(t)
		t.Setenv(v, "/dev/null")
		var warnings []string
		c, err := New("", func(text string) { warnings = append(warnings, text) }).Get(t.Context(), "x.example", "y")
		if err != nil || c.About != "none" || len(warnings) > 0 {
			t.Errorf("%s: %q, %v, warnings %q", v, c.About, err, warnings)
		}
		if told := config.FolderProblems(); len(told) != 1 || told[0] != v+"=/dev/null: not a directory: taken as empty" {
			t.Errorf("%s: told %q", v, told)
		}
	}
}

// A file that cannot be reached is told.
func TestKeychainFileIsNone(t *testing.T) {
	home := isolate(t)
	writeFileT(t, filepath.Join(home, ".docker"), "", 0o600)
	var warnings []string
	c, err := New("", func(text string) { warnings = append(warnings, text) }).Get(t.Context(), "x.example", "y")
	if err != nil || c.About != "none" || len(warnings) != 1 || warnings[0] != home+"/.docker/config.json: not a directory: taken as empty" {
		t.Errorf("%q, %v, warnings %q", c.About, err, warnings)
	}
}

// A helper is asked once for each registry, however many repositories there are; a wait for
// it is said; it ends with who asked.
func TestKeychainHelperIsAskedOnce(t *testing.T) {
	home := isolate(t)
	bin, log := filepath.Join(home, "bin"), filepath.Join(home, "log")
	writeFileT(t, filepath.Join(bin, "docker-credential-slow"), `#!/bin/sh
read host; echo $host >> `+log+`
case $host in hangs*) exec sleep 1000;; esac
sleep 0.7
echo '{"Username":"u","Secret":"s9"}'
`, 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	writeFileT(t, filepath.Join(home, ".docker/config.json"), `{"credsStore":"slow"}`, 0o600)
	k := New("", nil)
	var mu sync.Mutex
	var told []string
	ctx := progress.With(t.Context(), func(item string, current, total int64) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(item, " ", current, " ", total))
	})
	var group sync.WaitGroup
	for _, repo := range []string{"a", "b", "a", "c/d"} {
		group.Go(func() {
			if c, err := k.Get(ctx, "index.docker.io", repo); err != nil || c.Auth.Password != "s9" {
				t.Errorf("%s: %q, %v", repo, c.About, err)
			}
		})
	}
	group.Wait()
	asked, err := os.ReadFile(log)
	if err != nil || string(asked) != "https://index.docker.io/v1/\n" {
		t.Errorf("asked for %q, %v", asked, err)
	}
	const item = "waiting for docker-credential-slow to log in to https://index.docker.io/v1/"
	if want := []string{item + " 0 -1", item + " 0 0"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	short, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := k.Get(short, "hangs.example", "a"); err == nil || err.Error() != "enough" {
		t.Errorf("given up: %v", err)
	}
}

// Another file, or an entry for the registry alone, says more than the helper for all.
func TestKeychainHelpersAndEntries(t *testing.T) {
	home := isolate(t)
	bin := filepath.Join(home, "bin")
	writeFileT(t, filepath.Join(bin, "docker-credential-none"), "#!/bin/sh\necho credentials not found in native keychain; exit 1\n", 0o755)
	writeFileT(t, filepath.Join(bin, "docker-credential-own"), "#!/bin/sh\necho '{\"Username\":\"own\",\"Secret\":\"x\"}'\n", 0o755)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	writeFileT(t, filepath.Join(home, ".docker/config.json"), `{"credsStore":"none","credHelpers":{"own.example":"own","file.example":""},
		"auths":{"file.example":{"auth":"`+basic("file", "s1")+`"},"shadowed.example":{"auth":"`+basic("old", "s2")+`"}}}`, 0o600)
	writeFileT(t, filepath.Join(home, ".config/containers/auth.json"), `{"auths":{"podman.example":{"auth":"`+basic("podman", "s3")+`"}}}`, 0o600)
	t.Setenv("DOCKER_AUTH_CONFIG", `{"auths":{"env.example":{"auth":"`+basic("env", "s4")+`"}}}`)
	k := New("", nil)
	for host, want := range map[string]string{"own.example": "own", "file.example": "file", "shadowed.example": "", "podman.example": "podman", "env.example": "env"} {
		if c, err := k.Get(t.Context(), host, "y"); err != nil || c.Auth.Username != want {
			t.Errorf("%s: %q, %v; want %q", host, c.Auth.Username, err, want)
		}
	}
}
