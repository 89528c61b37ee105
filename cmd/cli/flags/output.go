package flags

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"

	"layered.build/builder/executor/rootless"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/engines"
)

// The values of --load that name no engine.
const (
	loadStore = "store"
	loadAuto  = "auto"
)

// parseOutputs reads --output, --push, --load and --annotation. Without any, the image
// goes into the store.
func (f *Build) parseOutputs() ([]export.Exporter, error) {
	var outs []export.Exporter
	for _, v := range f.outputs {
		s, err := export.ParseSpec(v)
		if err != nil {
			return nil, err
		}
		e, err := export.Parse(s)
		if err != nil {
			return nil, err
		}
		outs = append(outs, e)
	}
	if f.push {
		outs = pushed(outs)
	}
	load, err := f.loadOutput()
	if err != nil {
		return nil, err
	}
	if load != nil && (load.Kind() != export.Image || !slices.ContainsFunc(outs, isImage)) {
		outs = append(outs, load)
	}
	if len(outs) == 0 {
		outs = append(outs, export.ToStore())
	}
	if err := f.annotate(outs); err != nil {
		return nil, err
	}
	return outs, f.checkOutputs(outs)
}

func isImage(e export.Exporter) bool { return e.Kind() == export.Image }

// pushed are the outputs with --push.
func pushed(outs []export.Exporter) []export.Exporter {
	any := false
	for i, e := range outs {
		var ok bool
		outs[i], ok = export.Push(e)
		any = any || ok
	}
	if !any {
		e, _ := export.Push(export.ToStore())
		outs = append(outs, e)
	}
	return outs
}

// loadOutput is the output that --load means, nil without it.
func (f *Build) loadOutput() (export.Exporter, error) {
	switch f.load {
	case "", "false":
		return nil, nil
	case loadStore, "true":
		return export.ToStore(), nil
	case engines.Docker, engines.Podman, engines.Containerd:
		return export.ToEngine(f.load), nil
	case loadAuto:
		name, err := EngineSettings().Find()
		return export.ToEngine(name), err
	}
	return nil, mistake.New("--load=%s: want docker, containerd, podman or auto, or no value for the store", f.load)
}

// EngineSettings say where this user's engines are.
func EngineSettings() engines.Settings {
	return engines.Settings{Getenv: os.Getenv, Podman: append(os.Environ(), rootless.PodmanEnv()...)}
}

// annotate gives the outputs what --annotation asks for.
func (f *Build) annotate(outs []export.Exporter) error {
	var notes []export.Annotation
	for _, v := range f.annotations {
		a, err := export.ParseAnnotation(v)
		if err != nil {
			return err
		}
		notes = append(notes, a)
	}
	any := len(notes) == 0
	for i, e := range outs {
		var ok bool
		outs[i], ok = export.WithAnnotations(e, notes)
		any = any || ok
	}
	if !any {
		return mistake.New("--annotation: no output holds an image that could have annotations").WithHint("use type=image or type=oci")
	}
	return nil
}

// checkOutputs refuses what does not go together.
func (f *Build) checkOutputs(outs []export.Exporter) error {
	ps, err := Platforms(f.platforms)
	if err != nil {
		return err
	}
	if err := export.CheckEmptied(outs); err != nil {
		return err
	}
	return export.Check(outs, export.Request{Names: f.tags, Platforms: len(ps), Quiet: f.quiet, IDFile: f.iidfile != ""})
}

func splitCSV(s string) ([]string, error) {
	r := csv.NewReader(strings.NewReader(s))
	return r.Read()
}
