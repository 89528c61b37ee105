package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"layered.build/builder/registry/errdef"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What the user says has precedence, setting by setting.
func TestGC(t *testing.T) {
	yes, no := true, false
	for _, tc := range []struct {
		user, system string
		want         GC
	}{
		{"", "", GC{}},
		{"[gc]\nenabled = false\nmax-used-space = \"20g\"\n", "[gc]\nenabled = true\nmax-used-space = \"1g\"\nmin-free-space = \"10%\"\n",
			GC{Enabled: &no, MaxUsed: "20g", MinFree: "10%"}},
		{"[registry.\"x\"]\n", "[gc]\nenabled = true\nreserved-space = \"5g\"\n", GC{Enabled: &yes, Reserved: "5g"}},
	} {
		c, err := Files{Program: []string{write(t, "user.toml", tc.user), filepath.Join(t.TempDir(), "none"), write(t, "system.toml", tc.system)}}.Read()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(c.GC, tc.want) {
			t.Errorf("%q, %q: %+v, want %+v", tc.user, tc.system, c.GC, tc.want)
		}
	}
}

func TestMalformed(t *testing.T) {
	for text, want := range map[string]string{
		"[registry.\"x\"]\nmirorrs = []\n":                               "mirorrs",
		"[gc]\nmax-used = \"1g\"\n":                                      "max-used",
		"[registry.\"x\"]\nmirrors = [\"http://user:hunter2@mirror\"]\n": "registry mirror for x",
		"[registry\n": "",
		"[registry.\"x\"]\nmirrors = [\"ftp://mirror\"]\ninsecure = true\n": "the scheme must be http or https",
	} {
		path := write(t, "config.toml", text)
		_, err := Files{Program: []string{path}}.Read()
		if !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	for text, want := range map[string]string{
		"[[registry]]\n":                              "neither prefix nor location",
		"[[registry]]\nlocation = \"a b://c\"\n":      "not a URL",
		"[[registry]\n":                               "",
		"[[registry]]\nprefix = \"x\"\nblocked = 1\n": "blocked",
	} {
		path := write(t, "registries.conf", text)
		_, err := Files{Containers: path}.Read()
		if !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A drop-in replaces the rule for the same prefix.
func TestDropIns(t *testing.T) {
	main := write(t, "registries.conf", "[[registry]]\nprefix = \"a.example\"\nblocked = true\n[[registry]]\nprefix = \"b.example/\"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = \"m.example\"\n")
	dir := filepath.Dir(write(t, "10.conf", "[[registry]]\nlocation = \"a.example\"\ninsecure = true\n"))
	c, err := Files{Containers: main, DropIns: []string{dir}}.Read()
	if err != nil {
		t.Fatal(err)
	}
	byPrefix := map[string]Rule{}
	for _, r := range c.Rules {
		byPrefix[r.Prefix] = r
	}
	if a := byPrefix["a.example"]; a.Blocked || !a.Insecure || a.File != filepath.Join(dir, "10.conf") {
		t.Errorf("%+v", a)
	}
	if b := byPrefix["b.example"]; len(b.Mirrors) != 1 || b.Mirrors[0].PullBy != "digest-only" || len(c.Rules) != 2 {
		t.Errorf("%+v", b)
	}
}

// What cannot be reached in the user's folder counts as empty and is told; elsewhere it is
// an error.
func TestUnreachable(t *testing.T) {
	file := write(t, "file", "")
	user := filepath.Join(t.TempDir(), "user")
	if err := os.Symlink(file, user); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(user, "builder", "config.toml")
	containers := filepath.Join(user, "containers", "registries.conf")
	system := write(t, "system.toml", "[registry.\"x\"]\ninsecure = true\n")
	c, err := Files{Program: []string{program, system}, Containers: containers, User: user}.Read()
	if err != nil || len(c.Registries) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if len(c.Problems) != 2 || c.Problems[0] != program+": not a directory: taken as empty" || !strings.HasPrefix(c.Problems[1], containers) {
		t.Errorf("told %q", c.Problems)
	}
	if _, err := (Files{Program: []string{program}, User: "/elsewhere"}).Read(); err == nil || !strings.Contains(err.Error(), program) {
		t.Errorf("not the user's: %v", err)
	}
	t.Setenv("HOME", "/dev/null")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", write(t, "none.conf", ""))
	if c, err := SystemFiles().Read(); err != nil || len(c.Problems) != 1 || c.Problems[0] != "HOME=/dev/null: not a directory: taken as empty" {
		t.Errorf("HOME=/dev/null: %+v, %v", c, err)
	}
}

// Proxies are those of an engine, else the default ones, in both spellings.
func TestProxies(t *testing.T) {
	text := `{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"x,y"},"tcp://there:2375":{"httpsProxy":"http://q:2"}}}`
	d := ParseDocker("config.json", []byte(text))
	for engine, want := range map[string]map[string]string{
		"":                  {"HTTP_PROXY": "http://p:1", "http_proxy": "http://p:1", "NO_PROXY": "x,y", "no_proxy": "x,y"},
		"tcp://elsewhere:1": {"HTTP_PROXY": "http://p:1", "http_proxy": "http://p:1", "NO_PROXY": "x,y", "no_proxy": "x,y"},
		"tcp://there:2375":  {"HTTPS_PROXY": "http://q:2", "https_proxy": "http://q:2"},
	} {
		if got := d.Proxies(engine); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", engine, got, want)
		}
	}
	broken := ParseDocker("config.json", []byte("{\n\"proxies\":{\"default\":{\"httpProxy\":1}}}"))
	if got := broken.Proxies(""); len(got) > 0 || len(broken.Problems) != 1 || broken.Problems[0] != "config.json:2: proxies is not what it should be: it is not used" {
		t.Errorf("%v, %q", got, broken.Problems)
	}
}
