package routing

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/reference"
)

func show(eps []Endpoint) string {
	var out []string
	for _, e := range eps {
		s := strings.Join(e.Schemes, "+") + "://" + e.Host + "/" + e.Repo
		if e.SkipVerify {
			s += "!"
		}
		if e.Mirror {
			s += "(m)"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestRouting(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	files := config.Files{
		Program: []string{
			write("user.toml", "[registry.\"docker.io\"]\nmirrors = [\"https://user.example/hub\"]\n"),
			write("system.toml", "[registry.\"docker.io\"]\nmirrors = [\"sys.example\"]\n[registry.\"in.example:5\"]\ninsecure = true\n"),
			filepath.Join(dir, "none.toml"),
		},
		Containers: write("registries.conf", `
unqualified-search-registries = ["quay.io"]
[[registry]]
prefix = "docker.io"
[[registry.mirror]]
location = "conf.example/cache"
insecure = true
[[registry]]
location = "old.example"
blocked = true
`),
		DropIns: []string{filepath.Dir(write("d/10.conf", `
[[registry]]
prefix = "a.example/team"
location = "b.example/moved"
[[registry.mirror]]
location = "dig.example"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "*.corp.example"
insecure = true
`))},
	}
	t.Setenv(mirrorEnv, "docker.io=http://127.0.0.1:5001, other.example=m.example")
	cfg, err := files.Read()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New([]string{"docker.io=http://127.0.0.1:5000"}, []string{"10.0.0.0/8", "plain.example"}, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	hex := strings.Repeat("a", 64)
	for ref, want := range map[string]string{
		"alpine": "http://127.0.0.1:5000/library/alpine(m) http://127.0.0.1:5001/library/alpine(m) https://user.example/hub/library/alpine(m) " +
			"https://sys.example/library/alpine(m) https+http://conf.example/cache/library/alpine!(m) https://index.docker.io/library/alpine",
		"other.example/x":                      "https://m.example/x(m) https://other.example/x",
		"10.1.2.3:5000/x":                      "https+http://10.1.2.3:5000/x!",
		"192.168.1.1/x":                        "https://192.168.1.1/x",
		"localhost:5000/x":                     "https+http://localhost:5000/x",
		"127.9.9.9/x":                          "https+http://127.9.9.9/x",
		"[::1]:5000/x":                         "https+http://[::1]:5000/x",
		"plain.example:99/x":                   "https+http://plain.example:99/x!",
		"in.example:5/x":                       "https+http://in.example:5/x!",
		"a.example/team/app":                   "https://b.example/moved/app",
		"a.example/team/app@sha256:" + hex:     "https://dig.example/app(m) https://b.example/moved/app",
		"a.example/teams/app":                  "https://a.example/teams/app",
		"r.corp.example/app":                   "https+http://r.corp.example/app!",
		"quay.io/some/image:tag@sha256:" + hex: "https://quay.io/some/image",
	} {
		eps, err := r.Pull(mustRef(t, ref))
		if err != nil {
			t.Errorf("%s: %v", ref, err)
		}
		if got := show(eps); got != want {
			t.Errorf("%s:\n got %s\nwant %s", ref, got, want)
		}
	}
	if _, err := r.Pull(mustRef(t, "old.example/x")); !errors.Is(err, errdef.ErrRefused) || !strings.Contains(err.Error(), "registries.conf") {
		t.Errorf("blocked registry: %v", err)
	}
}

// What is said of all hosts counts more than what is said of one.
func TestVerify(t *testing.T) {
	cfg := &config.Config{Registries: []config.Registry{{Domain: "in.example", Insecure: true}}}
	yes, no := true, false
	for _, tc := range []struct {
		verify *bool
		want   string
	}{
		{nil, "https://a.example/x https+http://in.example/x! https+http://localhost:5000/x http://m.example/x(m) https://o.example/x"},
		{&yes, "https://a.example/x https://in.example/x https://localhost:5000/x http://m.example/x(m) https://o.example/x"},
		{&no, "https+http://a.example/x! https+http://in.example/x! https+http://localhost:5000/x! http://m.example/x!(m) https+http://o.example/x!"},
	} {
		r, err := New([]string{"o.example=http://m.example"}, nil, tc.verify, cfg)
		if err != nil {
			t.Fatal(err)
		}
		var eps []Endpoint
		for _, ref := range []string{"a.example/x", "in.example/x", "localhost:5000/x", "o.example/x"} {
			more, err := r.Pull(mustRef(t, ref))
			if err != nil {
				t.Fatal(err)
			}
			eps = append(eps, more...)
		}
		if got := show(eps); got != tc.want {
			t.Errorf("got  %s\nwant %s", got, tc.want)
		}
		_, err = r.URL("http://localhost:1/layer")
		if (err != nil) != (tc.verify == &yes) {
			t.Errorf("a foreign layer by http: %v", err)
		}
	}
}

func TestRoutingRefuses(t *testing.T) {
	for _, line := range []string{"docker.io", "=http://x", "docker.io=ftp://x", "docker.io=", "docker.io=http://user:hunter2@x"} {
		_, err := New([]string{line}, nil, nil, &config.Config{})
		if !errors.Is(err, errdef.ErrInvalid) {
			t.Errorf("%s: %v", line, err)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("[registry.\"x\"]\nmirorrs = []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (config.Files{Program: []string{path}}).Read(); !errors.Is(err, errdef.ErrInvalid) || !strings.Contains(err.Error(), "mirorrs") {
		t.Errorf("unknown setting: %v", err)
	}
}

func mustRef(t *testing.T, s string) reference.Reference {
	t.Helper()
	r, err := reference.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
