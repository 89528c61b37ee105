package assemble

import (
	"maps"
	"slices"
	"strings"

	"layered.build/builder/registry/image"
)

// Configuration is the configuration after an instruction, without rootfs and history. It
// is comparable, and does not change.
type Configuration interface {
	// Image returns all of it. What it points at is the caller's.
	Image() image.Config
	// On returns what was added to an earlier one to make this, or false if this is not
	// known to be made so.
	On(before Configuration) (Additions, bool)
}

// Additions are what a configuration has that the one before has not.
type Additions struct {
	// Rest is the configuration without variables, labels, ports and volumes.
	Rest image.Config
	// Env and Labels were set (name, value), in this order; a variable that was there
	// keeps its place.
	Env, Labels [][2]string
	// Ports and Volumes were added.
	Ports, Volumes []string
}

// whole is a configuration of which it is not known how it was made.
type whole struct{ cfg image.Config }

func (w *whole) Image() image.Config { return w.cfg }

func (w *whole) On(Configuration) (Additions, bool) { return Additions{}, false }

// configText is the JSON of a configuration, in parts of which those that grow are added
// to: so that for n instructions n labels are not sorted each time.
type configText struct {
	of                          Configuration
	rest                        image.Config
	ports, env, volumes, labels members
}

// next makes the text that of a configuration, with what was added if that is known.
func (t *configText) next(c Configuration) {
	if t.of == c {
		return
	}
	var added Additions
	ok := false
	if t.of != nil {
		added, ok = c.On(t.of)
	}
	if !ok {
		t.all(c)
		return
	}
	t.of, t.rest = c, added.Rest
	for _, kv := range added.Env {
		t.env.setListed(kv[0], listed(kv[0]+"="+kv[1]))
	}
	for _, kv := range added.Labels {
		t.labels.setSorted(kv[0], named(kv[0], quote(kv[1])))
	}
	for _, p := range added.Ports {
		t.ports.setSorted(p, named(p, []byte("{}")))
	}
	for _, v := range added.Volumes {
		t.volumes.setSorted(v, named(v, []byte("{}")))
	}
}

// all begins anew with all of a configuration.
func (t *configText) all(of Configuration) {
	img := of.Image()
	c := &img.Config
	*t = configText{of: of, rest: img}
	for _, kv := range c.Env {
		key, _, _ := strings.Cut(kv, "=")
		t.env.appendListed(key, listed(kv))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Labels)) {
		t.labels.setSorted(name, named(name, quote(c.Labels[name])))
	}
	for _, p := range slices.Sorted(maps.Keys(c.ExposedPorts)) {
		t.ports.setSorted(p, named(p, []byte("{}")))
	}
	for _, v := range slices.Sorted(maps.Keys(c.Volumes)) {
		t.volumes.setSorted(v, named(v, []byte("{}")))
	}
}

// write writes the config with another command, as encoding/json does.
func (t *configText) write(w *jsonWriter, cmd []string) {
	c := &t.rest.Config
	w.open()
	w.value("User", c.User, c.User != "")
	w.members("ExposedPorts", "{}", &t.ports)
	w.members("Env", "[]", &t.env)
	w.value("Entrypoint", c.Entrypoint, len(c.Entrypoint) > 0)
	w.value("Cmd", cmd, len(cmd) > 0)
	w.members("Volumes", "{}", &t.volumes)
	w.value("WorkingDir", c.WorkingDir, c.WorkingDir != "")
	w.members("Labels", "{}", &t.labels)
	w.value("StopSignal", c.StopSignal, c.StopSignal != "")
	//lint:ignore SA1019 part of what is hashed
	w.value("ArgsEscaped", true, c.ArgsEscaped)
	w.value("Healthcheck", c.Healthcheck, c.Healthcheck != nil)
	w.value("OnBuild", c.OnBuild, len(c.OnBuild) > 0)
	w.value("Shell", c.Shell, len(c.Shell) > 0)
	w.close()
}
