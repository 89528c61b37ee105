package engines

import (
	"context"
	"errors"
	"fmt"
	"io"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/containerd"
	"layered.build/builder/registry/export/layout"
)

// The engines.
const (
	Docker     = "docker"
	Podman     = "podman"
	Containerd = "containerd"
)

// Settings say where the engines are, as their own command lines find them. The zero
// value is an environment without variables.
type Settings struct {
	// Getenv looks up variables of the environment; nil finds none. HOME and PATH,
	// DOCKER_* and CONTAINERD_* count.
	Getenv func(string) string
	// Podman is the environment that podman gets, NAME=VALUE; nil is this process's.
	Podman []string
}

func (s Settings) env(name string) string {
	if s.Getenv == nil {
		return ""
	}
	return s.Getenv(name)
}

// Target is an engine.
type Target struct {
	// Engine is Docker, Podman or Containerd.
	Engine string
	// Context is one of docker's; "" is the one that docker's own command line uses.
	Context string
}

// Load gives an image to an engine under its names. An image for several platforms is for
// containerd alone. It returns what was done, for people, "" if there is nothing to say.
func (s Settings) Load(ctx context.Context, to Target, c *registry.Client, it layout.Item) (string, error) {
	switch to.Engine {
	case Podman:
		return s.loadPodman(ctx, c, it)
	case Containerd:
		return s.loadContainerd(ctx, c, it)
	}
	d, err := s.Daemon(to.Context)
	if err != nil {
		return "", err
	}
	sent, err := LoadDaemon(ctx, d, c, it)
	if err != nil {
		return "", &mistake.Advised{Err: err, Hint: "is docker running, and may this user use it? DOCKER_HOST or -o type=docker,context=NAME says where it is"}
	}
	return fmt.Sprintf("sent %d of %d layers", sent, len(it.Image.Stack)), nil
}

// Save reads an image of docker or podman as a docker archive. The caller closes it; an
// error of Close says that the archive is not complete.
func (s Settings) Save(ctx context.Context, name, image string) (io.ReadCloser, error) {
	if name == Podman {
		return s.savePodman(ctx, image)
	}
	d, err := s.Daemon("")
	if err != nil {
		return nil, err
	}
	return SaveDaemon(ctx, d, image)
}

func (s Settings) loadContainerd(ctx context.Context, c *registry.Client, it layout.Item) (string, error) {
	x := it.Index
	if x == nil {
		x = &registry.Index{Images: []*registry.Image{it.Image}}
	}
	sent, err := containerd.Load(ctx, s.endpoint(), c, x, it.Names)
	var connect *containerd.ConnectError
	if errors.As(err, &connect) {
		return "", &mistake.Advised{Err: err, Hint: "is containerd running, and may this user use it? CONTAINERD_ADDRESS is the path of its socket (of k3s: /run/k3s/containerd/containerd.sock)"}
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sent %d of %d layers", sent.Layers, len(x.Stack())), nil
}

// endpoint is the containerd that ctr and nerdctl would use.
func (s Settings) endpoint() containerd.Endpoint {
	return containerd.Endpoint{Address: s.env("CONTAINERD_ADDRESS"), Namespace: s.env("CONTAINERD_NAMESPACE")}
}
