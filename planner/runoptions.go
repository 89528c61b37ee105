package planner

import (
	"maps"
	"slices"

	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// RunOptions apply to every RUN. They are part of what a step is.
type RunOptions struct {
	DNS *dag.DNS
	// NetworkAllow are the only destinations of a RUN's own network.
	NetworkAllow    []string
	CapAdd, CapDrop []string // "CAP_SYS_ADMIN", sorted
	// Volumes are folders of the host. What they hold has no key: a RUN that has
	// some always runs.
	Volumes     []dag.Volume
	Confine     *dag.Confinement
	HostDevices []dag.HostDevice
	// Devices are requested for every RUN beside its own (CDI names).
	Devices []dag.Device
}

// apply gives a process the options.
func (o *RunOptions) apply(exec *dag.Exec) {
	if o.DNS != nil {
		d := *o.DNS
		exec.DNS = &d
	}
	if exec.Network != dag.NetNone {
		exec.NetworkAllow = slices.Clone(o.NetworkAllow)
	}
	exec.CapAdd, exec.CapDrop = slices.Clone(o.CapAdd), slices.Clone(o.CapDrop)
	if o.Confine != nil {
		c := *o.Confine
		exec.Confine = &c
	}
	exec.Volumes, exec.HostDevices = slices.Clone(o.Volumes), slices.Clone(o.HostDevices)
	exec.Devices = append(exec.Devices, o.Devices...)
}

// override changes what a stage takes over from its base: variables are added,
// labels removed. (UnsetEnv is for the result, see finish.) Nothing has been left yet.
func (o *Options) override(s *settings.Settings) {
	for _, kv := range o.Env {
		s.SetEnv(kv[0], kv[1])
	}
	maps.DeleteFunc(s.Image.Config.Labels, func(name, _ string) bool { return slices.Contains(o.UnsetLabels, name) })
}

// unset removes variables from the resulting image.
func (o *Options) unset(img *ImageConfig) {
	for _, name := range o.UnsetEnv {
		img.Config.Env = slices.DeleteFunc(img.Config.Env, func(kv string) bool {
			return len(kv) > len(name) && kv[:len(name)] == name && kv[len(name)] == '='
		})
	}
}
