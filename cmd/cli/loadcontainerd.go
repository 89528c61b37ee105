package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/containerd"
)

// containerdEndpoint is the containerd that ctr and nerdctl would use.
func containerdEndpoint() containerd.Endpoint {
	return containerd.Endpoint{Address: os.Getenv("CONTAINERD_ADDRESS"), Namespace: os.Getenv("CONTAINERD_NAMESPACE")}
}

func (e *engine) loadContainerd(ctx context.Context, t *task, x *registry.Index, names []string) error {
	sent, err := containerd.Load(registry.WithProgress(ctx, t.transfer), containerdEndpoint(), e.client, x, names)
	var connect *containerd.ConnectError
	if errors.As(err, &connect) {
		return &mistake.Advised{Err: err, Hint: "is containerd running, and may this user use it? CONTAINERD_ADDRESS is the path of its socket (of k3s: /run/k3s/containerd/containerd.sock)"}
	}
	if err != nil {
		return err
	}
	t.item(fmt.Sprintf("sent %d of %d layers", sent.Layers, len(x.Stack())))
	return nil
}

// probeTime is how long an engine may take to accept a connection.
const probeTime = 2 * time.Second

// findEngine finds the engine that --load=auto means: one that runs comes before one
// that is installed, and docker's before the containerd that it may use itself.
func findEngine() (string, error) {
	d, err := dockerDaemon("")
	if err != nil {
		return "", err
	}
	if listens(d.Host) {
		return engineDocker, nil
	}
	address := containerdEndpoint().Address
	if address == "" {
		address = containerd.DefaultAddress
	}
	if !strings.Contains(address, "://") {
		address = "unix://" + address
	}
	if listens(address) {
		return engineContainerd, nil
	}
	if _, err := exec.LookPath(enginePodman); err == nil {
		return enginePodman, nil
	}
	return "", mistake.New("--load=auto: neither docker (%s) nor containerd (%s) answers, and podman is not installed", d.Host, address).
		WithHint("DOCKER_HOST and CONTAINERD_ADDRESS say where they are")
}

// listens reports whether somebody accepts connections at an address.
func listens(address string) bool {
	network, addr, _ := strings.Cut(address, "://")
	if network != "unix" {
		network = "tcp"
	}
	c, err := net.DialTimeout(network, addr, probeTime)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
