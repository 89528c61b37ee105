package engines

import (
	"net"
	"os/exec"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/containerd"
)

// probeTime is how long an engine may take to accept a connection.
const probeTime = 2 * time.Second

// Find finds the engine that --load=auto means: one that runs comes before one that is
// installed, and docker's before the containerd that it may use itself.
func (s Settings) Find() (string, error) {
	d, err := s.Daemon("")
	if err != nil {
		return "", err
	}
	if listens(d.Host) {
		return Docker, nil
	}
	address := s.endpoint().Address
	if address == "" {
		address = containerd.DefaultAddress
	}
	if !strings.Contains(address, "://") {
		address = "unix://" + address
	}
	if listens(address) {
		return Containerd, nil
	}
	if _, err := exec.LookPath(Podman); err == nil {
		return Podman, nil
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
