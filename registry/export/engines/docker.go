package engines

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/parser/mistake"
)

// Daemon finds the docker engine that one of docker's contexts means; "" is the one that
// docker's own command line uses.
func (s Settings) Daemon(name string) (Daemon, error) {
	dir := s.env("DOCKER_CONFIG")
	if dir == "" {
		home := s.env("HOME")
		if home == "" {
			return Daemon{}, errors.New("$HOME is not defined")
		}
		dir = filepath.Join(home, ".docker")
	}
	if name == "" {
		name = s.env("DOCKER_CONTEXT")
	}
	if name == "" && s.env("DOCKER_HOST") == "" {
		var conf struct{ CurrentContext string }
		if data, err := os.ReadFile(filepath.Join(dir, "config.json")); err == nil {
			_ = json.Unmarshal(data, &conf) // what is wrong with it is told when credentials are read
		}
		name = conf.CurrentContext
	}
	if name == "" || name == "default" {
		return s.defaultDaemon(), nil
	}
	return contextDaemon(dir, name)
}

func (s Settings) defaultDaemon() Daemon {
	d := Daemon{Host: s.env("DOCKER_HOST")}
	if d.Host == "" {
		d.Host = "unix:///var/run/docker.sock"
	}
	if s.env("DOCKER_TLS_VERIFY") != "" {
		d.CertDir = s.env("DOCKER_CERT_PATH")
	}
	return d
}

// contextDaemon reads one of docker's contexts.
func contextDaemon(dir, name string) (Daemon, error) {
	id := digest.FromString(name).Encoded()
	data, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if err != nil {
		return Daemon{}, mistake.New("docker context %q: %w", name, err).WithHint("`docker context ls` lists them")
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return Daemon{}, mistake.New("docker context %q: %w", name, err)
	}
	ep := meta.Endpoints["docker"]
	if ep.SkipTLSVerify || strings.HasPrefix(ep.Host, "ssh://") {
		return Daemon{}, mistake.Unsupported(fmt.Sprintf("docker context %q (%s)", name, ep.Host), "use -o type=docker,dest=- | docker load")
	}
	d := Daemon{Host: ep.Host}
	if certs := filepath.Join(dir, "contexts", "tls", id, "docker"); isDir(certs) {
		d.CertDir = certs
	}
	return d, nil
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}
