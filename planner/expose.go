package planner

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
)

func (in *instruction) expose(cmd *instructions.ExposeCommand) error {
	var ports []string
	for _, spec := range cmd.Ports {
		words, err := in.lex.ProcessWords(spec, in.st.env)
		if err != nil {
			return err
		}
		for _, w := range words {
			ps, err := in.port(w)
			if err != nil {
				return err
			}
			ports = append(ports, ps...)
		}
	}
	for _, p := range ports {
		in.st.conf.Expose(p)
	}
	in.record(fmt.Sprintf("EXPOSE %v", ports), nil)
	return nil
}

// port reads "[[ip:]public:]private[/proto]", where the ports may be ranges, and
// returns the private ports ("80/tcp"). What stands before them has no effect in
// an image; it is checked and warned of, as BuildKit does.
func (in *instruction) port(spec string) ([]string, error) {
	parts := strings.Split(spec, ":")
	container := parts[len(parts)-1]
	if len(parts) > 1 {
		in.lint.Run(&linter.RuleExposeInvalidFormat, in.cmd.Location(), linter.RuleExposeInvalidFormat.Format(spec))
	}
	container, proto, _ := strings.Cut(container, "/")
	if proto != strings.ToLower(proto) {
		in.lint.Run(&linter.RuleExposeProtoCasing, in.cmd.Location(), linter.RuleExposeProtoCasing.Format(spec))
	}
	switch proto = strings.ToLower(proto); proto {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, fmt.Errorf("invalid port: %q: invalid proto: %s", spec, proto)
	}
	if container == "" {
		return nil, fmt.Errorf("invalid port: %q: no port specified", spec)
	}
	first, last, err := portRange(container)
	if err != nil {
		return nil, fmt.Errorf("invalid containerPort: %s: %w", container, err)
	}
	if err := checkHostPart(parts[:len(parts)-1], last-first); err != nil {
		return nil, err
	}
	ports := make([]string, 0, last-first+1)
	for p := first; p <= last; p++ {
		ports = append(ports, strconv.Itoa(p)+"/"+proto)
	}
	return ports, nil
}

// checkHostPart checks what stands before the container's port.
func checkHostPart(parts []string, containerSpan int) error {
	if len(parts) == 0 {
		return nil
	}
	host, ip := parts[len(parts)-1], strings.Join(parts[:len(parts)-1], ":")
	if trimmed := strings.TrimSuffix(strings.TrimPrefix(ip, "["), "]"); ip != "" && net.ParseIP(trimmed) == nil {
		return fmt.Errorf("invalid IP address: %s", ip)
	}
	if host == "" {
		return nil
	}
	first, last, err := portRange(host)
	if err != nil {
		return fmt.Errorf("invalid hostPort: %s: %w", host, err)
	}
	if containerSpan != 0 && last-first != containerSpan {
		return fmt.Errorf("invalid ranges specified for container and host ports: %s", host)
	}
	return nil
}

func portRange(s string) (first, last int, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if first, err = portNumber(a); err != nil {
		return 0, 0, err
	}
	if last = first; isRange {
		if last, err = portNumber(b); err != nil {
			return 0, 0, err
		}
	}
	if last < first {
		return 0, 0, errors.New("invalid port range")
	}
	return first, last, nil
}

func portNumber(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 65535 {
		return 0, fmt.Errorf("%q is not a port (0-65535)", s)
	}
	return n, nil
}
