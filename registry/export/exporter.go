// Package export writes what a build made to where it was asked for: one type for each
// kind of exporter, which knows its own options, what they need of the build, what does
// not go together, and how to write. It serves every caller alike: a command line, a file
// of targets, a server that has files taken elsewhere.
package export

import (
	"context"
	"io"
	"time"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/engines"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/registry/export/tree"
	"layered.build/builder/snapshot"
)

// The kinds of exporters, by BuildKit's names where it has one.
const (
	Image     = "image"     // into the store, perhaps a registry
	OCI       = "oci"       // an OCI image layout
	Docker    = "docker"    // a docker archive
	Tar       = "tar"       // the file system as a tar
	Local     = "local"     // the file system in a directory
	Engine    = "load"      // into another engine
	CacheOnly = "cacheonly" // nowhere
)

// Exporter writes what a build made to one place. It does not change once it is made, and
// it is safe for concurrent use.
type Exporter interface {
	// Kind is one of the kinds above.
	Kind() string
	// Needs says what the build has to prepare and to mind.
	Needs() Needs
	// Check refuses what does not go together with the rest of a request. Errors are
	// mistakes.
	Check(Request) error
	// Export writes. The images of made stay as they are.
	Export(ctx context.Context, env Env, made Made) (Exported, error)
}

// Needs is what a build minds for an exporter. The zero value is nothing.
type Needs struct {
	// Image: what is made is an image, and its epoch is that of the build's id.
	Image bool
	// Dest is the file or directory that is written, "-" for stdout, "" if there is
	// none or if the sinks know it.
	Dest string
	// Empties: what was in Dest before is removed.
	Empties bool
	// Names are what the image is called beside the names of all exporters.
	Names []string
	// Push says how the image is sent to the registries of its names, nil if it is not.
	Push *registry.PushOptions
	// Compress is a form that layers get on this machine, nil if they do not: they may
	// be compressed while later steps run.
	Compress *Compress
	// Epoch takes the place of the build's, if set.
	Epoch *Epoch
	// KeepTimes: times after the epoch are to stay, which no build does.
	KeepTimes bool
}

// Compress is how layers are compressed.
type Compress struct {
	Form registry.Form
	// OnlyNew leaves layers alone that have been compressed before: who gets the image
	// may have them.
	OnlyNew bool
}

// Epoch is an exporter's own SOURCE_DATE_EPOCH.
type Epoch struct {
	// Time is nil for none, whatever the build has.
	Time *time.Time
}

// EpochOf is the epoch of what an exporter is given: its own or the build's.
func EpochOf(e Exporter, build *time.Time) *time.Time {
	if own := e.Needs().Epoch; own != nil {
		return own.Time
	}
	return build
}

// Made is what a build made, under the epoch of the exporter that gets it.
type Made struct {
	// Images are one for each platform, at least one.
	Images []Member
	// Names are what all exporters call the image.
	Names []string
	// Split gives the files of each platform a folder of its own even if there is one.
	Split bool
	// Epoch is the time of files that are written without an image around them, nil for
	// their own.
	Epoch *time.Time
}

// Member is what was made for one platform.
type Member struct {
	Platform ocispec.Platform
	Image    *registry.Image
	// Files is the file system as the steps left it.
	Files snapshot.Stack
}

// images are the members' images, in a slice of their own.
func (m Made) images() []*registry.Image {
	var out []*registry.Image
	for _, member := range m.Images {
		out = append(out, member.Image)
	}
	return out
}

// trees are the members' file systems.
func (m Made) trees(ctx context.Context, store *snapshot.Store) ([]tree.Tree, error) {
	var out []tree.Tree
	for _, member := range m.Images {
		files, err := store.Tree(ctx, member.Files)
		if err != nil {
			return nil, err
		}
		out = append(out, tree.Tree{Platform: platforms.Normalize(member.Platform), Tree: files})
	}
	return out, nil
}

// Exported is what became of an image.
type Exported struct {
	// Index has the images as they were written: another form may be another image. It
	// is nil where nothing with a manifest was written.
	Index *registry.Index
	// Pushed describes the manifest or the index that registries have now; its digest
	// is "" if none has.
	Pushed ocispec.Descriptor
	// Names are those that the image has now, in the store or in registries.
	Names []string
}

// Env is what exporters write with.
type Env struct {
	Client *registry.Client
	Images *registry.Images
	// Sinks take files; a server has its client's.
	Sinks Sinks
	// Engines say where other engines are.
	Engines engines.Settings
	// Task shows what is going on.
	Task Task
}

// Sinks take what is not for a store, a registry or an engine. The destination is what
// the exporter was given, perhaps "". Disk is the one for this machine.
type Sinks interface {
	// File takes the bytes that write writes as one file. An error of write is
	// returned, and nothing half is left where that is possible.
	File(ctx context.Context, dest string, write func(io.Writer) error) error
	// Layout takes the files of an OCI image layout.
	Layout(ctx context.Context, dest string, write func(layout.Sink) error) error
	// Folder takes file systems; with empty, what was there before goes.
	Folder(ctx context.Context, dest string, set tree.Set, empty bool) error
}

// Task is work that is shown. How far transfers are goes by the context
// (progress.With).
type Task interface {
	// Item shows one thing that is done.
	Item(text string)
	// Run runs fn as a task of its own, with a context that tells it of transfers.
	Run(ctx context.Context, name string, fn func(context.Context, Task) error) error
}
