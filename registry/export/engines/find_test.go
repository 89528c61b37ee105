package engines

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"layered.build/builder/fixtures"
	"layered.build/builder/parser/mistake"
)

// TestFindEngine takes the engines away one by one.
func TestFindEngine(t *testing.T) {
	dir := fixtures.ShortDir(t)
	listen := func(name string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(dir, "docker"))
	t.Setenv("CONTAINERD_ADDRESS", filepath.Join(dir, "containerd"))
	t.Setenv("PATH", dir)
	podman := filepath.Join(dir, "podman")
	if err := os.WriteFile(podman, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	s := Settings{Getenv: os.Getenv}
	docker, containerd := listen("docker"), listen("containerd")
	for _, c := range []struct {
		want string
		gone func() error
	}{
		{Docker, docker.Close},
		{Containerd, containerd.Close},
		{Podman, func() error { return os.Remove(podman) }},
	} {
		if got, err := s.Find(); got != c.want || err != nil {
			t.Errorf("found %q, %v, want %q", got, err, c.want)
		}
		if err := c.gone(); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Find(); !errors.As(err, new(*mistake.Error)) {
		t.Errorf("found %q, %v, want a mistake", got, err)
	}
}
