package planner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// state is what the instructions of a stage have made so far.
type state struct {
	rootfs     dag.Edge
	env        settings.Env // of RUN and of expansion: the image's, and the arguments
	conf       settings.Settings
	buildArgs  []instructions.KeyValuePairOptional
	history    []Instruction
	lent       bool // a stage that is built on this one appends to its history
	source     *BaseImage
	platform   ocispec.Platform
	workdirSet bool
	steps      int // names given so far
	// once are the last instructions of kinds of which only the last counts.
	once map[string]instructions.Command
}

// lower plans one stage. The stages before it that it needs are planned.
func (l *lowering) lower(st *stage) error {
	l.begin(st)
	for _, cmd := range st.cmds {
		in := &instruction{
			lowering: l, st: st, cmd: cmd,
			lint:  l.lint.WithMergedConfigFromComments(cmd.Comments()),
			reuse: st.reuse.Within(parser.CommentedReuse(cmd.Comments())),
		}
		err := in.expand()
		if err == nil {
			err = in.lower()
		}
		if err != nil {
			return l.file.WrapAt(err, cmd.Location())
		}
	}
	st.done = true
	return nil
}

// begin sets up the state that FROM makes.
func (l *lowering) begin(st *stage) {
	switch {
	case st.base != nil:
		b := st.base
		st.state = state{
			rootfs: b.rootfs, env: b.env, conf: b.conf.Clone(), source: b.source, platform: b.platform,
			buildArgs: slices.Clone(b.buildArgs), history: b.history, workdirSet: b.workdirSet,
		}
		if b.lent {
			st.history = slices.Clip(b.history)
		}
		b.lent = true
	case st.from == scratchName:
		st.state = state{conf: settings.Settings{Image: emptyImage(l.target)}, platform: l.target}
		if st.plat != nil && st.plat.OS == l.target.OS { // BuildKit ignores it
			st.platform = *st.plat
		}
		if st.files != nil {
			l.filesRoot(st)
		}
	default:
		st.state = state{conf: settings.Settings{Image: fromBase(st.image)}, source: st.image, platform: l.target}
		if st.plat != nil {
			st.platform = *st.plat
		}
		l.lintBasePlatform(st)
		st.rootfs = l.imageStep(st, st.image, st.platform)
	}
	st.once = map[string]instructions.Command{}
	if st.base == nil {
		l.opts.override(&st.conf)
	}
	c := &st.conf.Image.Config
	c.OnBuild = nil // triggers have run or are the base stage's
	if !isWindows(st.platform) && !slices.ContainsFunc(c.Env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		st.conf.SetEnv("PATH", defaultPath)
	}
	st.env = st.env.WithAll(c.Env)
	if c.WorkingDir != "" && !isWindows(st.platform) && !path.IsAbs(c.WorkingDir) {
		c.WorkingDir = path.Join("/", c.WorkingDir)
	}
}

// imageStep is the step that brings an image, scratch for one without layers.
// St is the stage that starts from it, nil for an image that is copied from.
func (l *lowering) imageStep(st *stage, img *BaseImage, p ocispec.Platform) dag.Edge {
	layers := len(img.Config.RootFS.DiffIDs) > 0 ||
		slices.ContainsFunc(img.Config.History, func(h ocispec.History) bool { return !h.EmptyLayer })
	if !layers {
		return dag.Edge{}
	}
	s := &dag.Step{Op: img.source(), Platform: clonePlatform(p)}
	s.Meta.Command = "FROM " + img.Ref
	if img.Digest != "" && !strings.Contains(img.Ref, "@") {
		s.Meta.Command += "@" + img.Digest
	}
	s.Meta.Name = s.Meta.Command
	if st != nil {
		s.Meta.Stage = st.name
		s.Meta.Locations = l.locations(st.def.Location)
		s.Meta.Name = l.name(st, s.Meta.Command, p, settings.Env{}, false)
	}
	return dag.Edge{Step: l.intern(s)}
}

// context is the step that stands for the build context; there is one.
func (l *lowering) context() dag.Edge {
	if l.ctx == nil {
		l.ctx = l.intern(&dag.Step{
			Op:   &dag.Source{Local: &dag.LocalSource{Name: "context", Excludes: slices.Clone(l.opts.Excludes)}},
			Meta: dag.Meta{Name: "[internal] load build context", Command: "load build context"},
		})
	}
	return dag.Edge{Step: l.ctx}
}

// instruction is one instruction while it is planned.
type instruction struct {
	*lowering
	st   *stage
	cmd  command
	lint *linter.Linter
	// reuse is about earlier results of the instruction's steps.
	reuse parser.Reuse
}

// expand replaces the variables in the instruction's words. ARG does it itself,
// since a value that is overridden must not be expanded.
func (in *instruction) expand() error {
	if ex, ok := in.cmd.Command.(instructions.SupportsSingleWordExpansion); ok {
		if _, isArg := in.cmd.Command.(*instructions.ArgCommand); !isArg {
			if err := ex.Expand(func(word string) (string, error) { return in.word(in.lex, word) }); err != nil {
				return err
			}
		}
	}
	if ex, ok := in.cmd.Command.(instructions.SupportsSingleWordExpansionRaw); ok {
		lex := shell.NewLex('\\')
		lex.SkipProcessQuotes = true
		return ex.ExpandRaw(func(word string) (string, error) { return in.word(lex, word) })
	}
	return nil
}

func (in *instruction) word(lex *shell.Lex, word string) (string, error) {
	res, unmatched, err := lex.ProcessWord(word, in.st.env)
	in.lintUndefined(unmatched)
	return res, err
}

func (in *instruction) lower() error {
	switch c := in.cmd.Command.(type) {
	case *instructions.RunCommand:
		return in.run(c)
	case *instructions.CopyCommand:
		return in.copy(c)
	case *instructions.AddCommand:
		return in.add(c)
	case *instructions.WorkdirCommand:
		return in.workdir(c)
	case *instructions.ExposeCommand:
		return in.expose(c)
	case *instructions.ArgCommand:
		return in.arg(c)
	}
	return in.config()
}

// input finds what a source's files are.
func (in *instruction) input(src *source) (dag.Edge, string, error) {
	switch {
	case src == nil:
		return in.context(), "context", nil
	case src.stage != nil:
		if !src.stage.done {
			return dag.Edge{}, "", in.at(in.cmd.Location(),
				"cannot copy from stage %q, it needs to be defined before current stage %q", src.name, in.st.name)
		}
		if st := src.stage; st.files != nil && len(st.cmds) == 0 { // only what is needed of them
			return in.filesEdge(st.name, st.files), "from=" + src.name, nil
		}
		return src.stage.rootfs, "from=" + src.name, nil
	case src.files != nil:
		return in.filesEdge(src.name, src.files), "from=" + src.name, nil
	case src.image != nil:
		return in.imageStep(nil, src.image.base, in.target), "from=" + src.name, nil
	}
	return dag.Edge{}, "from=" + src.name, nil
}

// step makes a step of the stage. Text is the instruction as users see it.
func (in *instruction) step(op dag.Op, inputs inputs, text string) *dag.Step {
	st := in.st
	return &dag.Step{
		Op: op, Inputs: inputs.edges, Platform: clonePlatform(st.platform),
		Meta: dag.Meta{
			Name: in.name(st, text, st.platform, st.env, in.cmd.isOnBuild), Command: text, Stage: st.name,
			Locations: in.locations(in.cmd.Location()), InputNames: inputs.names, MaxAge: in.reuse.MaxAge,
			Alike: in.alike(op),
		},
	}
}

// internal makes a step that no instruction shows by itself.
func (in *instruction) internal(op dag.Op, name string) *dag.Step {
	return in.intern(&dag.Step{
		Op: op, Platform: clonePlatform(in.st.platform),
		Meta: dag.Meta{Name: "[internal] " + name, Command: name, Stage: in.st.name, Locations: in.locations(in.cmd.Location())},
	})
}

// advance makes a step's result the stage's file system and notes the history.
func (in *instruction) advance(s *dag.Step, createdBy string) {
	s = in.intern(s)
	in.st.rootfs = dag.Edge{Step: s}
	in.record(createdBy, s)
}

// record adds a line of history.
func (in *instruction) record(createdBy string, s *dag.Step) {
	in.st.history = append(in.st.history, Instruction{
		CreatedBy: createdBy, Comment: historyComment, Step: s, EmptyLayer: s == nil,
		Config: in.st.conf.Leave(), Location: in.locations(in.cmd.Location())[0],
	})
}

// inputs collects the inputs of a step. The first is the stage's file system;
// the others are shared among themselves, not with the first, which is needed as
// a whole.
type inputs struct {
	edges []dag.Edge
	names []string
}

func newInputs(base dag.Edge) inputs {
	return inputs{edges: []dag.Edge{base}, names: []string{""}}
}

func (i *inputs) add(e dag.Edge, name string, from int) int {
	for n := from; n < len(i.edges); n++ {
		if i.edges[n] == e {
			return n
		}
	}
	i.edges, i.names = append(i.edges, e), append(i.names, name)
	return len(i.edges) - 1
}

// result collects the images of all stages that were planned.
func (l *lowering) result(target *stage) (*Image, []*Image, error) {
	var out *Image
	var all []*Image
	images := map[*stage]*Image{}
	for _, st := range l.stages {
		if !st.done {
			continue
		}
		img := &Image{
			Stage: st.name, Index: st.index, Platform: clonePlatform(st.platform), Base: st.source,
			Instructions: st.history, Parent: images[st.base], Result: st.rootfs, Config: settings.Clone(st.conf.Image),
		}
		images[st] = img
		if st == target {
			out = img
			l.finish(img)
		}
		img.Config.Platform = platforms.Normalize(img.Config.Platform)
		all = append(all, img)
	}
	return out, all, nil
}

// finish gives the target's configuration the labels and the platform that were
// asked for.
func (l *lowering) finish(img *Image) {
	if len(l.opts.Labels) > 0 && img.Config.Config.Labels == nil {
		img.Config.Config.Labels = map[string]string{}
	}
	maps.Copy(img.Config.Config.Labels, l.opts.Labels)
	l.opts.unset(&img.Config)
	if l.implicit {
		return
	}
	img.Platform = clonePlatform(l.target)
	c, t := &img.Config.Platform, l.target
	same := c.OS == t.OS && c.Architecture == t.Architecture
	c.OS, c.Architecture = t.OS, t.Architecture
	if t.Variant != "" || !same {
		c.Variant = t.Variant
	}
	if t.OSVersion != "" || !same {
		c.OSVersion = t.OSVersion
	}
	if t.OSFeatures != nil {
		c.OSFeatures = slices.Clone(t.OSFeatures)
	}
}

// wrap makes every error but a cancellation a *parser.Error.
func (l *lowering) wrap(ctx context.Context, err error) error {
	var own *parser.Error
	if errors.As(err, &own) {
		return own
	}
	if ctx.Err() != nil {
		return fmt.Errorf("plan %s: %w", l.file.Name, err)
	}
	return l.file.Wrap(err)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
