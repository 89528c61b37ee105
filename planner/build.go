package planner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

const (
	hostnameArg = "BUILDKIT_SANDBOX_HOSTNAME"
	syntaxArg   = "BUILDKIT_SYNTAX"
	checkArg    = "BUILDKIT_DOCKERFILE_CHECK"
	// cacheNamespaceArg keeps the cache mounts of builds apart.
	cacheNamespaceArg = "BUILDKIT_CACHE_MOUNT_NS"
	inlineCacheArg    = "BUILDKIT_INLINE_CACHE" // the caller reads it
)

// Build plans the images that a Dockerfile and options ask for. Mistakes in the
// Dockerfile, and what it asks for that this builder does not do, are
// *parser.Error; errors of the resolver are wrapped in one that names the line.
// Build changes neither file nor opts and may be called concurrently. The same
// input gives the same plan.
func Build(ctx context.Context, file *parser.File, resolver ImageResolver, opts Options) (*Plan, error) {
	if v, ok := opts.BuildArgs[checkArg]; ok {
		checked, err := file.WithCheck(v)
		if err != nil {
			return nil, err
		}
		file = checked
	}
	b := newBuilder(file, resolver, opts)
	if err := b.build(ctx); err != nil {
		var e *parser.Error
		if errors.As(err, &e) && e.Warnings == nil {
			e.Warnings = b.plan.Warnings
		}
		return nil, err
	}
	return b.plan, nil
}

func newBuilder(file *parser.File, resolver ImageResolver, opts Options) *builder {
	b := &builder{
		file: file, opts: opts, args: maps.Clone(opts.BuildArgs),
		images: &imageSet{resolver: resolver, layouts: opts.Layouts, found: map[imageKey]*BaseImage{}},
		steps:  map[dag.ID]*dag.Step{}, plan: &Plan{Warnings: slices.Clone(file.Warnings)},
	}
	if b.args == nil {
		b.args = map[string]string{}
	}
	return b
}

func (b *builder) build(ctx context.Context) error {
	if err := b.options(); err != nil {
		return err
	}
	var roots, all []dag.Edge
	for _, p := range b.opts.Platforms {
		target, stages, err := b.platform(ctx, p)
		if err != nil {
			return err
		}
		b.plan.Targets = append(b.plan.Targets, target)
		roots = append(roots, target.Result)
		for _, s := range stages {
			b.plan.Stages = append(b.plan.Stages, s)
			all = append(all, s.Result)
		}
	}
	if b.opts.AllStages {
		roots = all
	}
	b.plan.Graph = fileOrder(roots, all)
	b.noteReads()
	b.plan.UnknownStages = slices.DeleteFunc(slices.Clone(b.opts.NoCacheStages), b.isStage)
	b.plan.UnusedArgs = unusedArgs(b.opts.BuildArgs, b.usedArgs)
	if err := b.validate(); err != nil {
		return err
	}
	return b.failOnWarning()
}

// isStage reports whether the file has a stage of a name.
func (b *builder) isStage(name string) bool {
	for i, st := range b.file.Stages {
		if strings.EqualFold(name, cmp.Or(st.Name, fmt.Sprintf("stage-%d", i))) {
			return true
		}
	}
	return false
}

// noteReads tells local sources what of them is read.
func (b *builder) noteReads() {
	reads := map[*dag.Step][]string{}
	for _, s := range b.steps {
		for i, in := range s.Inputs {
			if in.Step == nil {
				continue
			}
			src, ok := in.Step.Op.(*dag.Source)
			if !ok || src.Local == nil || src.Local.Name == "context" && b.opts.WholeContext {
				continue
			}
			paths, _ := s.Selector(i)
			reads[in.Step] = append(reads[in.Step], paths...)
		}
	}
	for s, paths := range reads {
		slices.Sort(paths)
		s.Meta.Reads = slices.Compact(paths)
	}
}

// validate checks the steps; what is wrong with one is wrong in its instruction.
func (b *builder) validate() error {
	for _, s := range b.plan.Graph.Steps {
		if err := s.Validate(); err != nil {
			e := &parser.Error{File: b.file.Name, Source: b.file.Source, Msg: err.Error(), Err: err}
			if len(s.Meta.Locations) > 0 {
				e.Start, e.End = s.Meta.Locations[0].Start, s.Meta.Locations[0].End
			}
			return e
		}
	}
	return nil
}

// builder is one Build.
type builder struct {
	file   *parser.File
	opts   Options
	args   map[string]string // build arguments, SOURCE_DATE_EPOCH resolved
	images *imageSet
	steps  map[dag.ID]*dag.Step // all steps, each once
	plan   *Plan
	// usedArgs are the names that an ARG declares.
	usedArgs map[string]bool
	// implicit says that no platform was asked for: the image's is its base's.
	implicit bool
	// ignored matches what the context leaves out, nil if that is nothing.
	ignored *patternmatcher.PatternMatcher
}

// options checks the options and fills in what the zero values mean.
func (b *builder) options() error {
	o := &b.opts
	if o.BuildPlatform.OS == "" {
		o.BuildPlatform = platforms.DefaultSpec()
	}
	o.BuildPlatform = platforms.Normalize(o.BuildPlatform)
	b.implicit = len(o.Platforms) == 0
	if b.implicit {
		o.Platforms = []ocispec.Platform{o.BuildPlatform}
	}
	var targets []ocispec.Platform // each once
	for _, p := range o.Platforms {
		p = platforms.Normalize(p)
		if !slices.ContainsFunc(targets, func(t ocispec.Platform) bool { return platforms.FormatAll(t) == platforms.FormatAll(p) }) {
			targets = append(targets, p)
		}
	}
	o.Platforms = targets
	if len(o.Excludes) > 0 {
		var err error
		if b.ignored, err = patternmatcher.New(o.Excludes); err != nil {
			return &parser.Error{Msg: fmt.Sprintf("ignore patterns: %v", err), Err: err}
		}
	}
	if v, ok := b.args[hostnameArg]; ok {
		o.Hostname = v
	}
	if v := b.args[syntaxArg]; v != "" && !parser.OwnSyntax(v) {
		return &parser.Error{Msg: "frontend " + v + " is not supported", Err: parser.ErrUnsupported}
	}
	return nil
}

// platform plans the stages for one platform.
func (b *builder) platform(ctx context.Context, p ocispec.Platform) (*Image, []*Image, error) {
	defs, argCmds, err := b.file.Instance()
	if err != nil {
		return nil, nil, err
	}
	pl := &lowering{
		builder: b, target: p, multi: len(b.opts.Platforms) > 1,
		lex: b.file.ShellLex(), byName: map[string]*stage{},
	}
	pl.lint = b.file.Linter(b.warn)
	targetName := b.opts.Target
	if targetName == "" {
		targetName = defs[len(defs)-1].Name
	}
	base := predefinedArgs(b.opts.BuildPlatform, p, b.args, targetName)
	pl.lintDefaultArgs(defs, base, argCmds)
	pl.globalOutline(base, pl.lex, argCmds)
	if pl.globals, pl.declared, err = metaArgs(base, pl.lex, argCmds, b.args); err != nil {
		return nil, nil, b.file.Wrap(err)
	}
	if b.plan.Epoch, err = pl.epoch(ctx, defs); err != nil {
		return nil, nil, b.epochError(ctx, err)
	}
	pl.proxy = proxyEnv(b.args)
	b.collectArgs(defs, pl.declared)
	target, err := pl.run(ctx, defs)
	if err != nil {
		return nil, nil, pl.wrap(ctx, err)
	}
	if b.plan.Outline == nil {
		b.plan.Outline = pl.outlineOf(target)
	}
	return pl.result(target)
}

// warn adds a lint finding, once for all platforms.
func (b *builder) warn(w parser.Warning) {
	if !slices.Contains(b.plan.Warnings, w) {
		b.plan.Warnings = append(b.plan.Warnings, w)
	}
}

// failOnWarning is the error that "# check=error=true" asks for.
func (b *builder) failOnWarning() error {
	serious := slices.DeleteFunc(slices.Clone(b.plan.Warnings), func(w parser.Warning) bool {
		return slices.Contains(adviceRules(), w.Rule)
	})
	if !b.file.FailOnWarning() || len(serious) == 0 {
		return nil
	}
	rules := map[string]bool{}
	for _, w := range serious {
		rules[w.Rule] = true
	}
	first := serious[0]
	return &parser.Error{
		File: b.file.Name, Source: b.file.Source, Start: first.Start, End: first.End,
		Msg:      "lint violation found for rules: " + strings.Join(slices.Sorted(maps.Keys(rules)), ", "),
		Warnings: b.plan.Warnings,
	}
}

// intern returns the step that is equal to s and already planned, or s. So two
// stages that begin alike share their steps.
func (b *builder) intern(s *dag.Step) *dag.Step {
	if have, ok := b.steps[s.ID()]; ok && have.Meta.NoCache == s.Meta.NoCache && have.Meta.MaxAge == s.Meta.MaxAge {
		return have
	}
	b.steps[s.ID()] = s
	return s
}

// fileOrder is the graph of roots with its steps in the order in which the
// stages (all) make them.
func fileOrder(roots, all []dag.Edge) *dag.Graph {
	needed := map[*dag.Step]bool{}
	for _, s := range dag.NewGraph(roots...).Steps {
		needed[s] = true
	}
	g := dag.NewGraph(all...)
	g.Steps = slices.DeleteFunc(g.Steps, func(s *dag.Step) bool { return !needed[s] })
	return g
}

// at makes an error at a location of the Dockerfile.
func (b *builder) at(loc []bk.Range, format string, args ...any) *parser.Error {
	start, end := parser.Lines(loc)
	err := fmt.Errorf(format, args...)
	return &parser.Error{
		File: b.file.Name, Source: b.file.Source, Start: start, End: end,
		Msg: err.Error(), Err: errors.Unwrap(err),
	}
}

// unsupported refuses something by name.
func (b *builder) unsupported(loc []bk.Range, what, hint string) *parser.Error {
	start, end := parser.Lines(loc)
	return b.file.Unsupported(start, end, what, hint)
}
