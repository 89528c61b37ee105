package rootfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"layered.build/builder/planner/dag"
)

// Etc mounts a file with the given content at /etc/name, read-only as BuildKit does.
func (r *Root) Etc(name string, data []byte) error {
	return r.usual("/etc/"+name, func() error {
		path := filepath.Join(r.opts.Dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return fmt.Errorf("write /etc/%s: %w", name, err)
		}
		return r.bind(path, "/etc/"+name, sealedRO)
	})
}

// Hosts is the /etc/hosts of a container with a name, and with others beside it.
func Hosts(name string, others []dag.HostAlias) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "127.0.0.1\tlocalhost %s\n::1\tlocalhost ip6-localhost ip6-loopback\n", name)
	for _, h := range others {
		fmt.Fprintf(&b, "%s\t%s\n", h.IP, h.Host)
	}
	return b.Bytes()
}
