package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/engines"
	"layered.build/builder/registry/export/layout"
)

// The values of --load.
const (
	loadStore        = "store"
	engineDocker     = "docker"
	enginePodman     = "podman"
	engineContainerd = "containerd"
	engineAuto       = "auto"
)

// loadOutput is the output that --load means, nil without it.
func (f *buildFlags) loadOutput() (*output, error) {
	switch f.load {
	case "", "false":
		return nil, nil
	case loadStore, "true":
		return &output{kind: outImage}, nil
	case engineDocker, enginePodman, engineContainerd:
		return &output{kind: outLoad, engine: f.load}, nil
	case engineAuto:
		engine, err := findEngine()
		return &output{kind: outLoad, engine: engine}, err
	}
	return nil, mistake.New("--load=%s: want docker, containerd, podman or auto, or no value for the store", f.load)
}

// load gives an image to another engine; containerd takes it for several platforms.
func (j *job) load(ctx context.Context, o output, images []*registry.Image, names []string) error {
	return j.task("loading into "+o.engine, func(t *task) error {
		img := images[0]
		switch o.engine {
		case enginePodman:
			return j.engine.loadPodman(ctx, t, img, names)
		case engineContainerd:
			return j.engine.loadContainerd(ctx, t, j.index(&o, images), names)
		}
		d, err := dockerDaemon(o.context)
		if err != nil {
			return err
		}
		return j.engine.loadDocker(ctx, t, d, img, names)
	})
}

func (e *engine) loadDocker(ctx context.Context, t *task, d engines.Daemon, img *registry.Image, names []string) error {
	sent, err := engines.LoadDaemon(registry.WithProgress(ctx, t.transfer), d, e.client, layout.Item{Image: img, Names: names})
	if err != nil {
		return &mistake.Advised{Err: err, Hint: "is docker running, and may this user use it? DOCKER_HOST or -o type=docker,context=NAME says where it is"}
	}
	t.item(fmt.Sprintf("sent %d of %d layers", sent, len(img.Stack)))
	return nil
}

// dockerDaemon finds the docker engine that a context means; "" is the one that
// docker's own command line uses.
func dockerDaemon(name string) (engines.Daemon, error) {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return engines.Daemon{}, err
		}
		dir = filepath.Join(home, ".docker")
	}
	if name == "" {
		name = os.Getenv("DOCKER_CONTEXT")
	}
	if name == "" && os.Getenv("DOCKER_HOST") == "" {
		var conf struct{ CurrentContext string }
		if data, err := os.ReadFile(filepath.Join(dir, "config.json")); err == nil {
			_ = json.Unmarshal(data, &conf) // what is wrong with it is told when credentials are read
		}
		name = conf.CurrentContext
	}
	if name == "" || name == "default" {
		return defaultDaemon(), nil
	}
	return contextDaemon(dir, name)
}

func defaultDaemon() engines.Daemon {
	d := engines.Daemon{Host: os.Getenv("DOCKER_HOST")}
	if d.Host == "" {
		d.Host = "unix:///var/run/docker.sock"
	}
	if os.Getenv("DOCKER_TLS_VERIFY") != "" {
		d.CertDir = os.Getenv("DOCKER_CERT_PATH")
	}
	return d
}

// contextDaemon reads one of docker's contexts.
func contextDaemon(dir, name string) (engines.Daemon, error) {
	id := digest.FromString(name).Encoded()
	data, err := os.ReadFile(filepath.Join(dir, "contexts", "meta", id, "meta.json"))
	if err != nil {
		return engines.Daemon{}, mistake.New("docker context %q: %w", name, err).WithHint("`docker context ls` lists them")
	}
	var meta struct {
		Endpoints map[string]struct {
			Host          string
			SkipTLSVerify bool
		}
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return engines.Daemon{}, mistake.New("docker context %q: %w", name, err)
	}
	ep := meta.Endpoints["docker"]
	if ep.SkipTLSVerify || strings.HasPrefix(ep.Host, "ssh://") {
		return engines.Daemon{}, mistake.Unsupported(fmt.Sprintf("docker context %q (%s)", name, ep.Host), "use -o type=docker,dest=- | docker load")
	}
	d := engines.Daemon{Host: ep.Host}
	if certs := filepath.Join(dir, "contexts", "tls", id, "docker"); isDir(certs) {
		d.CertDir = certs
	}
	return d, nil
}

func isDir(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.IsDir()
}

// loadPodman lets podman fetch the layers that it lacks from this process.
func (e *engine) loadPodman(ctx context.Context, t *task, img *registry.Image, names []string) (err error) {
	if _, err := exec.LookPath(enginePodman); err != nil {
		return mistake.New("--load=podman: %w", err)
	}
	if err := podman(ctx, "image", "exists", img.ID.Encoded()); err != nil {
		if err := e.pullIntoPodman(ctx, t, img); err != nil {
			return err
		}
	} else {
		t.item("podman has the image")
	}
	if len(names) == 0 {
		return nil
	}
	return podman(ctx, append([]string{"tag", img.ID.Encoded()}, names...)...)
}

func (e *engine) pullIntoPodman(ctx context.Context, t *task, img *registry.Image) (err error) {
	s, err := engines.Serve(registry.WithProgress(ctx, t.transfer), e.client, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	auth, err := authFile(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(auth)) }()
	if err := podman(ctx, "pull", "--quiet", "--tls-verify=false", "--authfile", auth, s.Name); err != nil {
		return err
	}
	return podman(ctx, "untag", img.ID.Encoded(), s.Name)
}

// authFile writes the password where podman reads it.
func authFile(s *engines.Served) (string, error) {
	f, err := os.CreateTemp("", "builder-auth-*.json") // with mode 0600
	if err != nil {
		return "", err
	}
	token := base64.StdEncoding.EncodeToString([]byte(s.User + ":" + s.Password))
	doc := map[string]any{"auths": map[string]any{s.Host: map[string]string{"auth": token}}}
	err = errors.Join(json.NewEncoder(f).Encode(doc), f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// podman runs podman; what it says is the error.
func podman(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, enginePodman, args...)
	cmd.Env = append(os.Environ(), rootless.PodmanEnv()...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("podman %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return nil
}
