package planner

import (
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/planner/dag"
)

// NamedContext takes the place of the stage or the image of its name. One field is
// set.
type NamedContext struct {
	// Image is a reference for the ImageResolver, or "scratch".
	Image string
	// Layout is an image for the LayoutResolver.
	Layout *LayoutImage
	// Source brings files that are no image: a directory, a repository, a download.
	Source *dag.Source
}

// contextName is how a context's name is compared: as BuildKit does, short and
// without :latest, and in lower case.
func contextName(name string) string {
	name = strings.ToLower(name)
	name = strings.TrimPrefix(name, "docker.io/")
	name = strings.TrimPrefix(name, "library/")
	return strings.TrimSuffix(name, ":latest")
}

// NamedContextKey is the key of Options.Contexts for a context's name, which may
// end with ::PLATFORM.
func NamedContextKey(name string) (string, error) {
	name, platform, ok := strings.Cut(name, "::")
	if !ok {
		return contextName(name), nil
	}
	p, err := platforms.Parse(platform)
	if err != nil {
		return "", err
	}
	return contextName(name) + "::" + platforms.FormatAll(platforms.Normalize(p)), nil
}

// named returns the context of a name, nil if there is none. One for the platform
// wins.
func (l *lowering) named(name string, p *ocispec.Platform) *NamedContext {
	if strings.EqualFold(name, scratchName) || strings.EqualFold(name, "context") || len(l.opts.Contexts) == 0 {
		return nil
	}
	if p == nil {
		p = &l.target
	}
	if nc := l.opts.Contexts[contextName(name)+"::"+platforms.FormatAll(platforms.Normalize(*p))]; nc != nil {
		return nc
	}
	return l.opts.Contexts[contextName(name)]
}

// replace lets a context take the place of a stage, instructions and all, or of
// the image that it starts from.
func (l *lowering) replace(st *stage) {
	var nc *NamedContext
	name := st.def.Name
	if name != "" {
		nc = l.named(name, st.plat)
	}
	switch {
	case nc != nil:
		st.base, st.def.Commands = nil, nil
	case st.base == nil:
		name = st.from
		nc = l.named(name, st.plat)
	}
	switch {
	case nc == nil:
	case nc.Source != nil:
		st.context, st.from, st.files = name, scratchName, nc.Source
	case nc.Layout != nil:
		st.from, st.layout = nc.Layout.String(), nc.Layout
	default:
		st.from = nc.Image
	}
}

// namedSource is the source of a COPY --from or a mount that a context stands for.
func namedSource(from string, nc *NamedContext, x *external) *source {
	switch {
	case nc.Source != nil:
		return &source{name: from, files: nc.Source}
	case nc.Image == scratchName:
		return &source{name: from}
	}
	x.ref = nc.Image
	if nc.Layout != nil {
		x.ref, x.layout = nc.Layout.String(), nc.Layout
	}
	return &source{name: from, image: x}
}

// filesEdge is the step that brings the files of a context.
func (l *lowering) filesEdge(name string, src *dag.Source) dag.Edge {
	return dag.Edge{Step: l.intern(&dag.Step{
		Op:   src,
		Meta: dag.Meta{Name: "[context " + name + "] load", Command: "load context " + name},
	})}
}

// filesRoot makes a context's files the file system that a stage starts with. Like
// BuildKit's it has no line in the history.
func (l *lowering) filesRoot(st *stage) {
	name := st.context
	step := l.intern(&dag.Step{
		Op: &dag.File{Actions: []dag.Action{{Copy: &dag.Copy{
			Sources: []string{"."}, Dest: "/", KeepOwner: true,
		}}}},
		Inputs:   []dag.Edge{l.filesEdge(name, st.files)},
		Platform: clonePlatform(st.platform),
		Meta: dag.Meta{
			Name: "[context " + name + "] copy", Command: "copy context " + name, Stage: st.name,
			Locations: l.locations(st.def.Location), InputNames: []string{"context " + name},
		},
	})
	st.rootfs = dag.Edge{Step: step}
	st.history = []Instruction{{
		CreatedBy: describe(st.files), Comment: historyComment, Step: step, Unlisted: true,
		Config: st.conf.Leave(), Location: l.locations(st.def.Location)[0],
	}}
}

// describe is what BuildKit calls the layer of a source.
func describe(src *dag.Source) string {
	switch {
	case src.Local != nil:
		_, name, _ := strings.Cut(src.Local.Name, ":")
		return "local source for " + name
	case src.Git != nil:
		text := "git snapshot for " + redacted(src.Git.Remote)
		if src.Git.Ref != "" {
			text += "#" + src.Git.Ref
		}
		return text
	case src.HTTP != nil:
		return "http url " + redacted(src.HTTP.URL)
	}
	return ""
}
