package runc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"layered.build/builder/executor/sandbox"
)

// mounts returns the mounts that come on top of the base ones, their sources
// ready.
func (r *run) mounts() ([]specs.Mount, error) {
	out, err := r.etcMounts()
	if err != nil {
		return nil, err
	}
	for i, m := range r.spec.Mounts {
		sm, err := r.mount(i, m)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Dest, err)
		}
		out = append(out, sm)
	}
	return out, nil
}

func (r *run) mount(i int, m sandbox.Mount) (specs.Mount, error) {
	dest := filepath.Clean(m.Dest)
	if m.Tmpfs != nil {
		return tmpfs(dest, m), nil
	}
	src := m.HostPath
	if src == "" {
		dir := r.path("mnt", strconv.Itoa(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return specs.Mount{}, err
		}
		if err := attach(m.Snapshot, dir); err != nil {
			return specs.Mount{}, err
		}
		var err error
		if src, err = securejoin.SecureJoin(dir, m.Selector); err != nil {
			return specs.Mount{}, err
		}
		if _, err := os.Stat(src); err != nil {
			return specs.Mount{}, fmt.Errorf("%q: %w", m.Selector, os.ErrNotExist)
		}
	}
	return bind(src, dest, m.ReadOnly), nil
}

func bind(src, dest string, readOnly bool) specs.Mount {
	m := specs.Mount{Destination: dest, Type: "bind", Source: src, Options: []string{"rbind"}}
	if readOnly {
		m.Options = append(m.Options, "ro")
	}
	return m
}

func tmpfs(dest string, m sandbox.Mount) specs.Mount {
	mode := m.Tmpfs.Mode
	if mode == 0 {
		mode = 0o1777
	}
	opts := []string{"nosuid", "mode=" + strconv.FormatUint(uint64(mode), 8)}
	if m.Tmpfs.Size > 0 {
		opts = append(opts, "size="+strconv.FormatInt(m.Tmpfs.Size, 10))
	}
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	return specs.Mount{Destination: dest, Type: "tmpfs", Source: "tmpfs", Options: opts}
}

// dedup lets a later mount take the place of an earlier one with the same
// destination, as BuildKit does.
func dedup(mounts []specs.Mount) []specs.Mount {
	var out []specs.Mount
	for _, m := range mounts {
		i := slices.IndexFunc(out, func(o specs.Mount) bool { return o.Destination == m.Destination })
		if i >= 0 {
			out[i] = m
		} else {
			out = append(out, m)
		}
	}
	return out
}

// makeMountpoints makes what mounts need in the root file system. Those that lie
// in another mount are made there, by libcontainer.
func (r *run) makeMountpoints(mounts []specs.Mount) error {
	for _, m := range mounts {
		nested := slices.ContainsFunc(mounts, func(o specs.Mount) bool {
			return strings.HasPrefix(m.Destination, o.Destination+"/")
		})
		if nested {
			continue
		}
		dir := true
		if m.Type == "bind" {
			fi, err := os.Stat(m.Source)
			if err != nil {
				return fmt.Errorf("mount %s: %w", m.Destination, err)
			}
			dir = fi.IsDir()
		}
		if err := r.stubs.add(m.Destination, dir); err != nil {
			return err
		}
	}
	return nil
}
