package runc

import (
	"bytes"
	"fmt"
	"os"

	"layered.build/builder/executor/runc/network"
	"layered.build/builder/executor/sandbox"
)

// mountEtc writes /etc/hosts and /etc/resolv.conf for this run and mounts them,
// read-only as BuildKit does.
func (r *run) mountEtc() error {
	conf, err := network.ResolvConf(r.s.opts.ResolvConf, r.spec.Network, r.spec.DNS)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"resolv.conf": conf, "hosts": hosts(r.spec)} {
		path := r.path(name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write /etc/%s: %w", name, err)
		}
		if err := r.root.bind(path, "/etc/"+name, sealedRO); err != nil {
			return err
		}
	}
	return nil
}

func hosts(spec *sandbox.Spec) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", hostname(spec))
	for _, h := range spec.Hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return b.Bytes()
}
