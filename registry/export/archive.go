package export

import (
	"context"
	"io"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/export/engines"
	"layered.build/builder/registry/export/layout"
)

// archive is where an archive of an image goes.
type archive struct {
	dest string
	// dir writes an OCI layout as a directory.
	dir bool
}

func archiveOptions() []option[archive] {
	return []option[archive]{
		text("dest", func(a *archive) *string { return &a.dest }),
		notFlag("tar", func(a *archive) *bool { return &a.dir }),
	}
}

// ociExporter writes an OCI image layout.
type ociExporter struct {
	look
	archive
}

func parseOCI(s Spec) (Exporter, error) {
	e := ociExporter{}
	options := append(within(lookOptions(), func(e *ociExporter) *look { return &e.look }),
		within(archiveOptions(), func(e *ociExporter) *archive { return &e.archive })...)
	if err := read(s, options, &e); err != nil {
		return nil, err
	}
	switch {
	case e.dest == "" && !s.Elsewhere:
		return nil, missing(s).WithHint("write type=%s,dest=FILE; dest=- is stdout", OCI)
	case e.dest == "-" && e.dir:
		return nil, toStdout(s)
	}
	return e, e.complete(s, OCI)
}

// Kind implements Exporter.
func (ociExporter) Kind() string { return OCI }

// Needs implements Exporter.
func (e ociExporter) Needs() Needs {
	n := e.needs()
	n.Dest, n.Compress = e.dest, e.compress(false)
	return n
}

// Check implements Exporter.
func (e ociExporter) Check(of Request) error { return e.check(of) }

// Export implements Exporter.
func (e ociExporter) Export(ctx context.Context, env Env, made Made) (Exported, error) {
	return writeLayout(ctx, env, made, &e.look, &layoutTo{e.archive, OCI})
}

// layoutTo is an archive that is an OCI layout, of a kind of exporter.
type layoutTo struct {
	archive
	kind string
}

func writeLayout(ctx context.Context, env Env, made Made, l *look, to *layoutTo) (Exported, error) {
	images, err := l.shape(ctx, env.Client, made.images())
	if err != nil {
		return Exported{}, err
	}
	out := Exported{Index: l.index(images)}
	env.Task.Item(writing(to.kind+" archive", to.dest))
	item := layout.Item{
		Image: images[0], Names: l.allNames(made), Annotations: l.annotated("manifest-descriptor", &images[0].Config.Platform),
		Docker: to.kind == Docker,
	}
	if len(images) > 1 {
		item = layout.Item{Index: out.Index, Names: item.Names, Annotations: l.annotated("index-descriptor", nil)}
	}
	if to.dir {
		return out, env.Sinks.Layout(ctx, to.dest, func(s layout.Sink) error {
			return layout.WriteOCITo(ctx, s, env.Client, item)
		})
	}
	return out, env.Sinks.File(ctx, to.dest, func(w io.Writer) error {
		return layout.WriteOCI(ctx, w, env.Client, item)
	})
}

// writing says what is written where.
func writing(what, dest string) string {
	if dest == "" {
		return "writing " + what
	}
	return "writing " + what + " to " + dest
}

// dockerExporter writes a docker archive, or an OCI layout that docker takes for one.
type dockerExporter struct {
	look
	archive
	// context is one of docker's, in which the image is loaded instead.
	context string
}

func dockerOptions() []option[dockerExporter] {
	options := append(within(lookOptions(), func(e *dockerExporter) *look { return &e.look }),
		within(archiveOptions(), func(e *dockerExporter) *archive { return &e.archive })...)
	return append(options, text("context", func(e *dockerExporter) *string { return &e.context }))
}

// parseDocker makes what docker's exporter means here. Where it means an engine and none
// is named, that is the store.
func parseDocker(s Spec) (Exporter, error) {
	e := dockerExporter{}
	if err := read(s, dockerOptions(), &e); err != nil {
		return nil, err
	}
	if err := e.complete(s, Docker); err != nil {
		return nil, err
	}
	switch {
	case e.context != "" && e.dest != "":
		return nil, mistake.New("--output %q: context is where the image is loaded, so that there is no dest", s)
	case e.context != "":
		return engineExporter{look: e.look, engine: engines.Docker, context: e.context}, nil
	case e.dir && e.dest == "" && !s.Elsewhere:
		return nil, missing(s).WithHint("tar=false writes a directory")
	case e.dest == "" && !s.Elsewhere:
		return imageExporter{look: e.look}, nil
	case e.dest == "-" && e.dir:
		return nil, toStdout(s)
	}
	return e, nil
}

// Kind implements Exporter.
func (dockerExporter) Kind() string { return Docker }

// Needs implements Exporter.
func (e dockerExporter) Needs() Needs {
	n := e.needs()
	n.Dest = e.dest
	if e.dir || !e.usual() {
		n.Compress = e.compress(false)
	}
	return n
}

// Check implements Exporter.
func (e dockerExporter) Check(of Request) error {
	if of.Platforms > 1 {
		return mistake.New("--output type=docker holds an image for one platform, not for %d", of.Platforms).WithHint("use type=oci, or build for one platform")
	}
	return e.check(of)
}

// Export implements Exporter.
func (e dockerExporter) Export(ctx context.Context, env Env, made Made) (Exported, error) {
	if e.dir || !e.usual() {
		return writeLayout(ctx, env, made, &e.look, &layoutTo{e.archive, Docker})
	}
	env.Task.Item(writing("docker archive", e.dest))
	item := layout.Item{Image: made.Images[0].Image, Names: e.allNames(made)}
	return Exported{}, env.Sinks.File(ctx, e.dest, func(w io.Writer) error {
		return layout.WriteDocker(ctx, w, env.Client, item)
	})
}

// engineExporter gives the image to another engine.
type engineExporter struct {
	look
	engine  string
	context string // of docker, "" is that of its command line
}

// ToEngine makes the exporter that gives an image to an engine, which is one of package
// engines'.
func ToEngine(name string) Exporter { return engineExporter{engine: name} }

// ToStore makes the exporter that keeps the image in the store, which is what a build
// does without any other.
func ToStore() Exporter { return imageExporter{} }

// Kind implements Exporter.
func (engineExporter) Kind() string { return Engine }

// Needs implements Exporter.
func (e engineExporter) Needs() Needs {
	n := e.needs()
	if e.engine == engines.Containerd {
		n.Compress = e.compress(true)
	}
	return n
}

// Check implements Exporter.
func (e engineExporter) Check(of Request) error {
	switch {
	case e.engine == engines.Containerd && len(e.names) == 0 && len(of.Names) == 0:
		return mistake.New("containerd knows images by their names alone, and this one has none").WithHint("add -t NAME")
	case e.engine != engines.Containerd && of.Platforms > 1:
		return mistake.New("%s takes an image for one platform, not for %d", e.engine, of.Platforms).WithHint("use --load=containerd or type=oci, or build for one platform")
	}
	return e.check(of)
}

// Export implements Exporter.
func (e engineExporter) Export(ctx context.Context, env Env, made Made) (Exported, error) {
	return Exported{}, env.Task.Run(ctx, "loading into "+e.engine, func(ctx context.Context, t Task) error {
		images := made.images()
		item := layout.Item{Image: images[0], Names: e.allNames(made)}
		if e.engine == engines.Containerd {
			item = layout.Item{Index: e.index(images), Names: item.Names}
		}
		said, err := env.Engines.Load(ctx, engines.Target{Engine: e.engine, Context: e.context}, env.Client, item)
		if err == nil && said != "" {
			t.Item(said)
		}
		return err
	})
}
