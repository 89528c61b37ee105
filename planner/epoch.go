package planner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

const epochArg = "SOURCE_DATE_EPOCH"

// SourceTimes says when sources were made: a commit's time, Last-Modified, or the
// time of the newest file of an archive. Nil means that it is not known.
type SourceTimes interface {
	// ContextTime is the time of the build context.
	ContextTime(ctx context.Context) (*time.Time, error)
	// SourceTime is the time of a git or HTTP source.
	SourceTime(ctx context.Context, src *dag.Source) (*time.Time, error)
}

// epoch finds the SOURCE_DATE_EPOCH in force: the build argument, else the
// option, else the default of an ARG before the first FROM. It makes the
// argument's value the number of seconds, or removes it when there is none.
func (l *lowering) epoch(ctx context.Context, defs []instructions.Stage) (*time.Time, error) {
	value, given := l.args[epochArg]
	if !given && l.opts.Epoch != nil {
		value, given = strconv.FormatInt(l.opts.Epoch.Unix(), 10), true
		l.args[epochArg] = value
	}
	byArg := given
	if !given {
		value, given = l.globals.Get(epochArg)
	}
	if !given {
		return nil, nil
	}
	t, err := l.epochOf(ctx, value, defs)
	if err != nil {
		return nil, err
	}
	if t == nil {
		delete(l.args, epochArg)
		l.globals = l.globals.Without(epochArg)
		return nil, nil
	}
	seconds := strconv.FormatInt(t.Unix(), 10)
	if byArg {
		l.args[epochArg] = seconds
	}
	if _, ok := l.globals.Get(epochArg); ok {
		l.globals = l.globals.With(epochArg, seconds)
	}
	whole := time.Unix(t.Unix(), 0).UTC()
	return &whole, nil
}

// epochOf reads a value: seconds since 1970, "context", or the name of a context
// or a stage.
func (l *lowering) epochOf(ctx context.Context, value string, defs []instructions.Stage) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		t := time.Unix(seconds, 0).UTC()
		return &t, nil
	}
	if value == "context" {
		if l.opts.Times == nil {
			return nil, nil
		}
		return l.opts.Times.ContextTime(ctx)
	}
	if nc := l.named(value, nil); nc != nil {
		return l.sourceTime(ctx, nc.Source)
	}
	for i := range defs {
		if defs[i].Name != "" && strings.EqualFold(defs[i].Name, value) {
			src, err := l.epochStage(&defs[i])
			if err != nil {
				return nil, bk.WithLocation(err, defs[i].Location)
			}
			t, err := l.sourceTime(ctx, src)
			if err != nil {
				return nil, bk.WithLocation(err, defs[i].Location)
			}
			return t, nil
		}
	}
	return nil, &badEpoch{value}
}

// sourceTime is the time of a source; images and directories have none.
func (l *lowering) sourceTime(ctx context.Context, src *dag.Source) (*time.Time, error) {
	if src == nil || src.Local != nil || l.opts.Times == nil {
		return nil, nil
	}
	return l.opts.Times.SourceTime(ctx, src)
}

// epochStage returns the source of a stage that is made of one remote ADD alone.
func (l *lowering) epochStage(def *instructions.Stage) (*dag.Source, error) {
	args := l.globals.Without(epochArg)
	base, err := l.lex.ProcessWordWithMatches(def.BaseName, args)
	if err != nil {
		return nil, err
	}
	if base.Result != scratchName {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must use FROM scratch")
	}
	var src *dag.Source
	for _, cmd := range def.Commands {
		switch c := cmd.(type) {
		case *instructions.ArgCommand:
			if args, err = l.epochArgs(args, c); err != nil {
				return nil, err
			}
		case *instructions.AddCommand:
			if src != nil {
				return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")
			}
			if src, err = l.epochAdd(args, c); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported %s instruction", cmd.Name())
		}
	}
	if src == nil {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")
	}
	return src, nil
}

// epochArgs adds what an ARG of the stage declares.
func (l *lowering) epochArgs(args settings.Env, c *instructions.ArgCommand) (settings.Env, error) {
	for _, kv := range c.Args {
		if v, ok := l.args[kv.Key]; ok {
			args = args.With(kv.Key, v)
			continue
		}
		if kv.Value == nil {
			continue
		}
		v, err := l.lex.ProcessWordWithMatches(*kv.Value, args)
		if err != nil {
			return settings.Env{}, err
		}
		args = args.With(kv.Key, v.Result)
	}
	return args, nil
}

// epochAdd reads the stage's ADD, without expanding the command itself.
func (l *lowering) epochAdd(args settings.Env, c *instructions.AddCommand) (*dag.Source, error) {
	if len(c.SourcePaths) != 1 || len(c.SourceContents) != 0 {
		return nil, errors.New("SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source")
	}
	url, err := l.lex.ProcessWordWithMatches(c.SourcePaths[0], args)
	if err != nil {
		return nil, err
	}
	sum, err := l.lex.ProcessWordWithMatches(c.Checksum, args)
	if err != nil {
		return nil, err
	}
	t := &transfer{checksum: sum.Result, keepGitDir: c.KeepGitDir}
	switch src := url.Result; {
	case isGit(src):
		return gitSource(t, src)
	case isURL(src):
		return httpSource(t, src)
	}
	return nil, errors.New("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")
}

// badEpoch is a SOURCE_DATE_EPOCH that means nothing.
type badEpoch struct{ value string }

func (e *badEpoch) Error() string { return fmt.Sprintf("invalid %s: %s", epochArg, e.value) }

// epochError places a bad SOURCE_DATE_EPOCH at the ARG that sets it, if one does,
// or at the stage that it names.
func (b *builder) epochError(ctx context.Context, err error) error {
	var bad *badEpoch
	if !errors.As(err, &bad) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return b.file.Wrap(err)
	}
	e := &parser.Error{Msg: err.Error(), Hint: "give seconds since 1970, context, or the name of a context or a stage", Err: err}
	if _, ok := b.args[epochArg]; !ok {
		for _, cmd := range b.file.MetaArgs {
			for _, kv := range cmd.Args {
				if kv.Key == epochArg {
					e.File, e.Source = b.file.Name, b.file.Source
					e.Start, e.End = parser.Lines(cmd.Location())
				}
			}
		}
	}
	return e
}
