package planner

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// lowering is the planning of all stages for one platform.
type lowering struct {
	*builder
	target   ocispec.Platform
	multi    bool // several platforms are planned: names say which
	lex      *shell.Lex
	lint     *linter.Linter
	globals  settings.Env
	declared declared
	proxy    []string
	// globalArgs are the arguments before the first FROM.
	globalArgs map[string]outlineArg

	stages []*stage // of the file, in its order
	byName map[string]*stage
	names  []string // display names, for hints
	ctx    *dag.Step
	solo   bool // there is one stage only: its name is not shown
}

// source is where a COPY --from or a mount takes its files: a stage of the
// file, an image, or nothing at all (scratch).
type source struct {
	name  string
	stage *stage
	image *external
	files *dag.Source // of a named context
}

// external is an image that is not the base of a stage.
type external struct {
	ref      string
	layout   *LayoutImage // the same, if it is in a layout
	location []bk.Range
	base     *BaseImage // nil until resolved
}

// command is an instruction with the sources that it names. For a RUN, sources
// has one entry a mount, nil where the mount names none.
type command struct {
	instructions.Command
	sources   []*source
	isOnBuild bool
}

// stage is one stage of the file while it is planned.
type stage struct {
	def     instructions.Stage
	index   int
	name    string       // def.Name, or "stage-N"
	base    *stage       // the stage that this one is built on
	from    string       // the image that it is built on, expanded ("scratch" for none)
	layout  *LayoutImage // the same, if it is in a layout
	image   *BaseImage
	files   *dag.Source // a named context that it is built on, or that stands for it
	context string      // its name
	plat    *ocispec.Platform
	cmds    []command
	onbuild bool           // triggers have been looked for
	alike   map[string]int // how often instructions were met
	reuse   parser.Reuse   // of the results of its steps
	total   int            // steps, for names
	done    bool
	outline outline
	// For the rules of this builder: what may change, and where files are.
	volatile []*volatileArg
	copied   []string
	state
}

// run plans the stages that the target needs and returns the target.
func (l *lowering) run(ctx context.Context, defs []instructions.Stage) (*stage, error) {
	for i := range defs {
		if err := l.addStage(i, defs[i]); err != nil {
			return nil, err
		}
	}
	target, err := l.findTarget()
	if err != nil {
		return nil, err
	}
	for _, st := range l.stages {
		for _, c := range st.def.Commands {
			cmd, err := l.command(c)
			if err != nil {
				return nil, err
			}
			st.cmds = append(st.cmds, cmd)
		}
		st.total = countSteps(st)
	}
	needed, err := l.resolve(ctx, target)
	if err != nil {
		return nil, err
	}
	for _, st := range l.stages {
		if !needed[st] {
			l.skip(st)
			continue
		}
		if err := l.lower(st); err != nil {
			return nil, err
		}
	}
	return target, nil
}

// addStage reads a FROM.
func (l *lowering) addStage(i int, def instructions.Stage) error {
	lint := l.lint.WithMergedConfigFromComments(def.Comments)
	st := &stage{def: def, index: i, name: def.Name, outline: newOutline()}
	if st.name == "" {
		st.name = fmt.Sprintf("stage-%d", i)
	}
	res, err := l.lex.ProcessWordWithMatches(def.BaseName, l.globals)
	l.lintFromArgs(res.Unmatched, def.Location, lint)
	if err != nil {
		return l.file.WrapAt(err, def.Location)
	}
	st.useInFrom(res.Matched)
	if i == 0 && l.opts.From != "" {
		res.Result = l.opts.From
	}
	if st.from = res.Result; st.from == "" {
		e := l.at(def.Location, "base name (%s) should not be blank", def.BaseName)
		return l.suggestArgs(e, res.Unmatched)
	}
	if def.Platform != "" {
		if err := l.stagePlatform(st, lint); err != nil {
			return err
		}
	}
	st.base = l.byName[strings.ToLower(st.from)]
	l.replace(st)
	st.reuse = parser.CommentedReuse(def.Comments).Within(parser.Reuse{Never: l.opts.NoCache, MaxAge: l.opts.MaxAge})
	for _, n := range l.opts.NoCacheStages {
		st.reuse.Never = st.reuse.Never || strings.EqualFold(n, st.name)
	}
	l.stages = append(l.stages, st)
	l.names = append(l.names, st.name)
	if def.Name != "" {
		l.byName[strings.ToLower(def.Name)] = st
	}
	return nil
}

// stagePlatform reads FROM --platform.
func (l *lowering) stagePlatform(st *stage, lint *linter.Linter) error {
	loc := st.def.Location
	res, err := l.lex.ProcessWordWithMatches(st.def.Platform, l.globals)
	l.lintFromArgs(res.Unmatched, loc, lint)
	l.lintPlatform(st.def, res, lint)
	if err != nil {
		return l.file.WrapAt(fmt.Errorf("expand platform %s: %w", st.def.Platform, err), loc)
	}
	st.useInFrom(res.Matched)
	if res.Result == "" {
		e := l.at(loc, "empty platform value from expression %s", st.def.Platform)
		return l.suggestArgs(e, res.Unmatched)
	}
	p, err := platforms.Parse(res.Result)
	if err != nil {
		e := l.at(loc, "failed to parse platform %s: %w", st.def.Platform, err)
		return l.suggestArgs(e, res.Unmatched)
	}
	st.plat = &p
	return nil
}

// suggestArgs adds a hint for a variable that is not defined.
func (l *lowering) suggestArgs(e *parser.Error, unmatched map[string]struct{}) *parser.Error {
	for _, name := range sortedKeys(unmatched) {
		if m, ok := suggest.Search(name, l.globals.Keys(), true); ok {
			e.Hint = "did you mean " + m + "?"
			break
		}
	}
	return e
}

// findTarget finds the stage that is asked for by name. A number is no name, as
// with BuildKit.
func (l *lowering) findTarget() (*stage, error) {
	name := l.opts.Target
	if name == "" {
		return l.stages[len(l.stages)-1], nil
	}
	if st, ok := l.byName[strings.ToLower(name)]; ok {
		return st, nil
	}
	e := &parser.Error{File: l.file.Name, Source: l.file.Source, Msg: fmt.Sprintf("target stage %q could not be found", name)}
	if m, ok := suggest.Search(strings.ToLower(name), l.names, true); ok {
		e.Hint = "did you mean " + m + "?"
	} else {
		e.Hint = "the stages are " + strings.Join(l.names, ", ")
	}
	return nil, e
}

// command finds the sources of an instruction.
func (l *lowering) command(c instructions.Command) (command, error) {
	cmd := command{Command: c}
	switch c := c.(type) {
	case *instructions.CopyCommand:
		if c.From == "" {
			break
		}
		res, err := l.lex.ProcessWordWithMatches(c.From, settings.Env{})
		if err != nil {
			return cmd, l.file.WrapAt(err, c.Location())
		}
		if res.Result != c.From {
			return cmd, l.at(c.Location(), "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround")
		}
		src, err := l.source(c.From, c.Location())
		if err != nil {
			return cmd, err
		}
		cmd.sources = []*source{src}
	case *instructions.RunCommand:
		for _, m := range instructions.GetMounts(c) {
			var src *source
			if m.From != "" {
				var err error
				if src, err = l.source(m.From, c.Location()); err != nil {
					return cmd, err
				}
			}
			cmd.sources = append(cmd.sources, src)
		}
	}
	return cmd, nil
}

// source finds what a --from means: a stage's name or number, else an image.
func (l *lowering) source(from string, loc []bk.Range) (*source, error) {
	if st, ok := l.byName[strings.ToLower(from)]; ok {
		return &source{name: from, stage: st}, nil
	}
	if i, err := strconv.Atoi(from); err == nil {
		if i < 0 || i >= len(l.stages) {
			return nil, l.at(loc, "invalid stage index %d", i)
		}
		return &source{name: from, stage: l.stages[i]}, nil
	}
	if from == scratchName {
		return &source{name: from}, nil
	}
	x := &external{ref: from, location: loc}
	if nc := l.named(from, nil); nc != nil {
		return namedSource(from, nc, x), nil
	}
	return &source{name: from, image: x}, nil
}

// countSteps counts what a stage's names count ("[build 2/5]").
func countSteps(st *stage) int {
	n := 0
	if st.base == nil && (st.from != scratchName || st.files != nil) {
		n++
	}
	for _, c := range st.cmds {
		switch c.Command.(type) {
		case *instructions.AddCommand, *instructions.CopyCommand, *instructions.RunCommand, *instructions.WorkdirCommand:
			n++
		}
	}
	return n
}

// skip notes a stage that the target does not need.
func (l *lowering) skip(st *stage) {
	for _, s := range l.plan.Skipped {
		if s == st.name {
			return
		}
	}
	l.plan.Skipped = append(l.plan.Skipped, st.name)
}
