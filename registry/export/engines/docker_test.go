package engines

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestContexts(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("DOCKER_CONTEXT", "")
	t.Setenv("DOCKER_HOST", "")
	t.Setenv("DOCKER_TLS_VERIFY", "")
	add := func(name, host string) {
		t.Helper()
		meta := filepath.Join(dir, "contexts", "meta", digest.FromString(name).Encoded())
		if err := os.MkdirAll(meta, 0o755); err != nil {
			t.Fatal(err)
		}
		doc := `{"Name":"` + name + `","Endpoints":{"docker":{"Host":"` + host + `","SkipTLSVerify":false}}}`
		if err := os.WriteFile(filepath.Join(meta, "meta.json"), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	add("near", "unix:///run/other.sock")
	add("far", "ssh://me@far")
	certs := filepath.Join(dir, "contexts", "tls", digest.FromString("tls").Encoded(), "docker")
	add("tls", "tcp://10.0.0.1:2376")
	if err := os.MkdirAll(certs, 0o755); err != nil {
		t.Fatal(err)
	}
	want := func(name string, d Daemon, text string) {
		t.Helper()
		got, err := Settings{Getenv: os.Getenv}.Daemon(name)
		if got != d || (text == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %+v, %v; want %+v, %q", name, got, err, d, text)
		}
	}
	want("", Daemon{Host: "unix:///var/run/docker.sock"}, "")
	want("near", Daemon{Host: "unix:///run/other.sock"}, "")
	want("tls", Daemon{Host: "tcp://10.0.0.1:2376", CertDir: certs}, "")
	want("far", Daemon{}, "ssh://me@far")
	want("none", Daemon{}, `docker context "none"`)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"currentContext":"near"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want("", Daemon{Host: "unix:///run/other.sock"}, "")
	want("default", Daemon{Host: "unix:///var/run/docker.sock"}, "")
	t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
	want("", Daemon{Host: "tcp://127.0.0.1:1"}, "")
}
