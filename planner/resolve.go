package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/parser"
)

// resolve finds the stages that the target needs, the images that these start
// from or copy from, and the triggers that the images bring, until nothing new
// turns up.
func (l *lowering) resolve(ctx context.Context, target *stage) (map[*stage]bool, error) {
	for {
		needed := l.needed(target)
		if err := l.resolveImages(ctx, needed); err != nil {
			return nil, err
		}
		more := false
		for _, st := range l.stages {
			if !needed[st] || st.onbuild {
				continue
			}
			st.onbuild = true
			deps, err := l.addTriggers(st)
			if err != nil {
				return nil, err
			}
			more = more || deps
		}
		if !more {
			l.solo = len(l.stages) == 1 && len(l.externals(needed)) == 0
			return needed, nil
		}
	}
}

// needed returns the stages that a stage is made of, itself included.
func (l *lowering) needed(target *stage) map[*stage]bool {
	set := map[*stage]bool{}
	var visit func(st *stage)
	visit = func(st *stage) {
		if st == nil || set[st] {
			return
		}
		set[st] = true
		visit(st.base)
		for _, c := range st.cmds {
			for _, src := range c.sources {
				if src != nil {
					visit(src.stage)
				}
			}
		}
	}
	visit(target)
	if l.opts.AllStages {
		for _, st := range l.stages {
			visit(st)
		}
	}
	return set
}

// externals returns the images that the stages copy from or mount.
func (l *lowering) externals(needed map[*stage]bool) []*external {
	var out []*external
	for _, st := range l.stages {
		if !needed[st] {
			continue
		}
		for _, c := range st.cmds {
			for _, src := range c.sources {
				if src != nil && src.image != nil {
					out = append(out, src.image)
				}
			}
		}
	}
	return out
}

// request is an image that somebody waits for.
type request struct {
	key      imageKey
	platform ocispec.Platform
	layout   *LayoutImage // nil for images of the ImageResolver
	location []bk.Range
	deliver  func(*BaseImage)
}

// resolveImages resolves what is not resolved yet, all at the same time, each
// image once. The error is that of the first FROM in the file that fails.
func (l *lowering) resolveImages(ctx context.Context, needed map[*stage]bool) error {
	var requests []request
	for _, st := range l.stages {
		if needed[st] && st.base == nil && st.from != scratchName && st.image == nil {
			p := l.target
			if st.plat != nil {
				p = *st.plat
			}
			if isWindows(p) {
				return l.unsupported(st.def.Location, "a base image for Windows", "images for Windows are made FROM scratch with COPY and ADD")
			}
			requests = append(requests, request{keyOf(st.from, p), p, st.layout, st.def.Location, func(b *BaseImage) { st.image = b }})
		}
	}
	for _, x := range l.externals(needed) {
		if x.base == nil {
			requests = append(requests, request{keyOf(x.ref, l.target), l.target, x.layout, x.location, func(b *BaseImage) { x.base = b }})
		}
	}
	if err := l.images.fetch(ctx, requests); err != nil {
		return err
	}
	for _, r := range requests {
		base, err := l.images.found[r.key], l.images.failed[r.key]
		if err != nil {
			return l.imageError(ctx, r, err)
		}
		r.deliver(base)
	}
	return nil
}

func (l *lowering) imageError(ctx context.Context, r request, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var own *parser.Error
	if errors.As(err, &own) {
		return own
	}
	e := l.at(r.location, "%s: %w", r.key.ref, err)
	e.Part = l.written(e.Start, r.key.ref)
	if m, ok := suggest.Search(r.key.ref, append(slices.Clone(l.names), commonImages[:]...), true); ok {
		e.Hint = "did you mean " + m + "?"
	}
	return e
}

// written is the name of a base image as its FROM, at the line, has it: with its
// variables. It is "" for what is no FROM.
func (l *lowering) written(line int, ref string) string {
	for _, def := range l.file.Stages {
		if start, _ := parser.Lines(def.Location); start == line && def.BaseName != ref {
			return def.BaseName
		}
	}
	return ""
}

var commonImages = [...]string{"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"}

// imageKey is the text of an image, which says whether it is in a layout, and a platform.
type imageKey struct{ ref, platform string }

func keyOf(ref string, p ocispec.Platform) imageKey { return imageKey{ref, platforms.FormatAll(p)} }

// imageSet remembers what the resolvers have said during one Build.
type imageSet struct {
	resolver ImageResolver
	layouts  LayoutResolver
	found    map[imageKey]*BaseImage
	failed   map[imageKey]error
}

// fetch asks the resolver for the images that are not known yet.
func (s *imageSet) fetch(ctx context.Context, requests []request) error {
	type answer struct {
		base *BaseImage
		err  error
	}
	answers := map[imageKey]*answer{}
	var g errgroup.Group // no early end: which error is reported must not depend on timing
	for _, r := range requests {
		if s.found[r.key] != nil || answers[r.key] != nil {
			continue
		}
		if r.layout == nil && s.resolver == nil || r.layout != nil && s.layouts == nil {
			return errors.New("planner: no image resolver")
		}
		a := &answer{}
		answers[r.key] = a
		g.Go(func() error {
			if r.layout != nil {
				a.base, a.err = s.layouts.ResolveLayout(ctx, *r.layout, r.platform)
			} else {
				a.base, a.err = s.resolver.ResolveImage(ctx, r.key.ref, r.platform)
			}
			if a.err == nil && a.base == nil {
				a.err = fmt.Errorf("resolver knows nothing of the image")
			}
			return nil
		})
	}
	_ = g.Wait()
	s.failed = map[imageKey]error{}
	for k, a := range answers {
		if a.err != nil {
			s.failed[k] = a.err
			continue
		}
		s.found[k] = a.base
	}
	return nil
}

// addTriggers puts the ONBUILD instructions of a stage's base in front of its
// own and reports whether they name sources.
func (l *lowering) addTriggers(st *stage) (deps bool, err error) {
	var triggers []string
	if st.base != nil {
		for _, c := range st.base.cmds {
			if ob, ok := c.Command.(*instructions.OnbuildCommand); ok {
				triggers = append(triggers, ob.Expression)
			}
		}
	} else if st.image != nil {
		triggers = st.image.Config.Config.OnBuild
	}
	var cmds []command
	for _, t := range triggers {
		cmd, err := l.trigger(st, t)
		if err != nil {
			return false, err
		}
		cmds = append(cmds, cmd)
		deps = deps || len(cmd.sources) > 0
	}
	st.cmds = append(cmds, st.cmds...)
	st.total = countSteps(st)
	return deps, nil
}

// trigger parses one ONBUILD instruction. Its lines are those of the FROM.
func (l *lowering) trigger(st *stage, text string) (command, error) {
	fail := func(err error) (command, error) {
		e := l.file.Wrap(bk.SetLocation(err, st.def.Location))
		e.Start, e.End = parser.Lines(st.def.Location)
		e.Source, e.File = l.file.Source, l.file.Name
		e.Msg = fmt.Sprintf("ONBUILD trigger %q of the base: %s", text, e.Msg)
		return command{}, e
	}
	start, end := parser.Lines(st.def.Location)
	ic, err := parser.ParseInstruction(text, start, end)
	if err != nil {
		return fail(err)
	}
	if _, chained := ic.(*instructions.OnbuildCommand); chained {
		return fail(errors.New("chaining ONBUILD is not allowed"))
	}
	cmd, err := l.command(ic)
	if err != nil {
		return fail(err)
	}
	cmd.isOnBuild = true
	return cmd, nil
}
