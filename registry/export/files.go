package export

import (
	"context"
	"io"
	"path/filepath"
	"slices"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/export/tree"
	"layered.build/builder/registry/progress"
)

// fileSystems is what exporters of file systems have in common.
type fileSystems struct {
	dest string
	// split puts each platform into a folder of its own; nil: if there are several.
	split *bool
	epoch *Epoch
}

func filesOptions() []option[fileSystems] {
	return []option[fileSystems]{
		text("dest", func(f *fileSystems) *string { return &f.dest }),
		{"platform-split", func(f *fileSystems, key, value string) error {
			split, err := truth(key, value)
			f.split = &split
			return err
		}},
		epochOption(func(f *fileSystems) **Epoch { return &f.epoch }),
	}
}

func (f fileSystems) needs() Needs { return Needs{Dest: f.dest, Epoch: f.epoch} }

// set is what is written.
func (f fileSystems) set(ctx context.Context, env Env, made Made) (tree.Set, error) {
	trees, err := made.trees(ctx, env.Client.Store())
	s := tree.Set{Trees: trees, Split: made.Split || len(trees) > 1, Epoch: made.Epoch}
	if f.split != nil {
		s.Split = *f.split
	}
	return s, err
}

// tarExporter writes file systems as a tar.
type tarExporter struct{ fileSystems }

func parseTar(s Spec) (Exporter, error) {
	e := tarExporter{}
	err := read(s, within(filesOptions(), func(e *tarExporter) *fileSystems { return &e.fileSystems }), &e)
	if err == nil && e.dest == "" && !s.Elsewhere {
		err = missing(s).WithHint("write type=%s,dest=FILE; dest=- is stdout", Tar)
	}
	return e, err
}

// Kind implements Exporter.
func (tarExporter) Kind() string { return Tar }

// Needs implements Exporter.
func (e tarExporter) Needs() Needs { return e.needs() }

// Check implements Exporter.
func (tarExporter) Check(Request) error { return nil }

// Export implements Exporter.
func (e tarExporter) Export(ctx context.Context, env Env, made Made) (Exported, error) {
	env.Task.Item(writing("files", e.dest))
	return Exported{}, env.Sinks.File(ctx, e.dest, func(w io.Writer) error {
		set, err := e.set(ctx, env, made)
		if err != nil {
			return err
		}
		if e.dest != "-" {
			w = &progress.Writer{W: w, To: progress.Of(ctx), Item: filepath.Base(e.dest), Total: -1}
		}
		return set.WriteTar(ctx, w)
	})
}

// localExporter writes file systems into a directory.
type localExporter struct {
	fileSystems
	// remove makes the directory equal to the result.
	remove bool
}

func localOptions() []option[localExporter] {
	options := within(filesOptions(), func(e *localExporter) *fileSystems { return &e.fileSystems })
	mode := option[localExporter]{"mode", func(e *localExporter, _, value string) error {
		switch value {
		case "copy", "":
		case "delete":
			e.remove = true
		default:
			return mistake.New("--output mode=%s: want copy or delete", value)
		}
		return nil
	}}
	return slices.Insert(options, 1, mode)
}

func parseLocal(s Spec) (Exporter, error) {
	e := localExporter{}
	if err := read(s, localOptions(), &e); err != nil {
		return nil, err
	}
	switch {
	case e.dest == "" && !s.Elsewhere:
		return nil, missing(s).WithHint("write type=local,dest=DIR")
	case e.dest == "-":
		return nil, toStdout(s)
	}
	return e, nil
}

// Kind implements Exporter.
func (localExporter) Kind() string { return Local }

// Needs implements Exporter.
func (e localExporter) Needs() Needs {
	n := e.needs()
	n.Empties = e.remove
	return n
}

// Check implements Exporter.
func (localExporter) Check(Request) error { return nil }

// Export implements Exporter.
func (e localExporter) Export(ctx context.Context, env Env, made Made) (Exported, error) {
	env.Task.Item(writing("files", e.dest))
	set, err := e.set(ctx, env, made)
	if err != nil {
		return Exported{}, err
	}
	return Exported{}, env.Sinks.Folder(ctx, e.dest, set, e.remove)
}

// cacheOnly writes nothing.
type cacheOnly struct{}

// Kind implements Exporter.
func (cacheOnly) Kind() string { return CacheOnly }

// Needs implements Exporter.
func (cacheOnly) Needs() Needs { return Needs{} }

// Check implements Exporter.
func (cacheOnly) Check(of Request) error {
	if of.IDFile {
		return mistake.New("--iidfile and type=cacheonly cannot be combined: no image is made")
	}
	return nil
}

// Export implements Exporter.
func (cacheOnly) Export(context.Context, Env, Made) (Exported, error) { return Exported{}, nil }
