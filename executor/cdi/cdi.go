// Package cdi finds devices that are described by the Container Device Interface
// (https://github.com/cncf-tags/container-device-interface): files in /etc/cdi and
// /var/run/cdi that say what a container needs to use a device.
package cdi

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// classAnnotation names a class of devices, as in BuildKit.
const classAnnotation = "org.mobyproject.buildkit.device.class"

// maxSpec bounds a file's size.
const maxSpec = 4 << 20

// Dirs are the folders of specifications; what is in a later one wins.
func Dirs() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// Device is one device and what a container needs for it.
type Device struct {
	// Name is VENDOR/CLASS=NAME.
	Name  string
	Edits Edits
	class string
}

// Edits are changes to a container.
type Edits struct {
	Env            []string     `yaml:"env"`
	DeviceNodes    []DeviceNode `yaml:"deviceNodes"`
	Mounts         []Mount      `yaml:"mounts"`
	AdditionalGIDs []uint32     `yaml:"additionalGids"`
	Hooks          []any        `yaml:"hooks"`
	IntelRDT       any          `yaml:"intelRdt"`
	NetDevices     []any        `yaml:"netDevices"`
}

// DeviceNode is a device node. HostPath "" means Path.
type DeviceNode struct {
	Path        string  `yaml:"path"`
	HostPath    string  `yaml:"hostPath"`
	Permissions string  `yaml:"permissions"`
	FileMode    *uint32 `yaml:"fileMode"`
	UID         *uint32 `yaml:"uid"`
	GID         *uint32 `yaml:"gid"`
}

// Mount is a bind mount.
type Mount struct {
	HostPath      string   `yaml:"hostPath"`
	ContainerPath string   `yaml:"containerPath"`
	Options       []string `yaml:"options"`
	Type          string   `yaml:"type"`
}

type spec struct {
	Version     string            `yaml:"cdiVersion"`
	Kind        string            `yaml:"kind"`
	Annotations map[string]string `yaml:"annotations"`
	Edits       Edits             `yaml:"containerEdits"`
	Devices     []struct {
		Name        string            `yaml:"name"`
		Annotations map[string]string `yaml:"annotations"`
		Edits       Edits             `yaml:"containerEdits"`
	} `yaml:"devices"`
}

// Registry are the devices of a machine, sorted by name. It does not change.
type Registry struct{ devices []Device }

// Load reads the specifications of some folders. Folders that do not exist are
// empty; a file that cannot be read is an error that names it.
func Load(dirs ...string) (*Registry, error) {
	byName := map[string]Device{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read device specifications: %w", err)
		}
		for _, e := range entries {
			ext := filepath.Ext(e.Name())
			if ext != ".yaml" && ext != ".json" {
				continue
			}
			if err := load(filepath.Join(dir, e.Name()), byName); err != nil {
				return nil, err
			}
		}
	}
	r := &Registry{}
	for _, d := range byName {
		r.devices = append(r.devices, d)
	}
	slices.SortFunc(r.devices, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

func load(path string, to map[string]Device) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read device specification: %w", err)
	}
	defer f.Close()
	var s spec
	if err := yaml.NewDecoder(io.LimitReader(f, maxSpec)).Decode(&s); err != nil {
		return fmt.Errorf("read device specification %s: %w", path, err)
	}
	if s.Version == "" || !strings.Contains(s.Kind, "/") {
		return fmt.Errorf("read device specification %s: no cdiVersion or no kind VENDOR/CLASS", path)
	}
	for _, d := range s.Devices {
		name := s.Kind + "=" + d.Name
		class := s.Annotations[classAnnotation]
		if c := d.Annotations[classAnnotation]; c != "" {
			class = c
		}
		to[name] = Device{Name: name, Edits: join(s.Edits, d.Edits), class: class}
	}
	return nil
}

func join(a, b Edits) Edits {
	return Edits{
		Env:            slices.Concat(a.Env, b.Env),
		DeviceNodes:    slices.Concat(a.DeviceNodes, b.DeviceNodes),
		Mounts:         slices.Concat(a.Mounts, b.Mounts),
		AdditionalGIDs: slices.Concat(a.AdditionalGIDs, b.AdditionalGIDs),
		Hooks:          slices.Concat(a.Hooks, b.Hooks),
		NetDevices:     slices.Concat(a.NetDevices, b.NetDevices),
		IntelRDT:       firstSet(a.IntelRDT, b.IntelRDT),
	}
}

func firstSet(a, b any) any {
	if a != nil {
		return a
	}
	return b
}

// Find returns the devices that a request means, as in BuildKit: VENDOR/CLASS=NAME
// is that device, VENDOR/CLASS the first one of the kind, VENDOR/CLASS=* all of
// them, and any other word a class that specifications name.
func (r *Registry) Find(request string) []Device {
	kind, name, _ := strings.Cut(request, "=")
	var out []Device
	for _, d := range r.devices {
		of := strings.HasPrefix(d.Name, kind+"=") && strings.Contains(kind, "/")
		switch {
		case !of:
		case name == "" && len(out) == 0, name == "*", d.Name == request:
			out = append(out, d)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, d := range r.devices {
		if d.class == request && request != "" {
			out = append(out, d)
		}
	}
	return out
}
