package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/parser"
	"layered.build/builder/planner/subrequest"
)

// answer does what --call asks for instead of building.
func (a *app) answer(ctx context.Context, inv *flags.Invocation) error {
	return a.withJob(ctx, inv, a.std.Err, func(e *engine.Engine, in build.Inputs) error {
		c := &answerer{out: a.std.Out, call: inv.Call}
		j := build.New(e, inv.Request, in, quietly)
		if inv.Call.What == flags.CallTargets {
			_, file, err := j.Parse(ctx)
			if err != nil {
				return err
			}
			if inv.Call.JSON {
				return subrequest.WriteJSON(a.std.Out, subrequest.NewTargets(file))
			}
			return subrequest.PrintTargets(a.std.Out, file)
		}
		p, err := j.Plan(ctx)
		if inv.Call.What == flags.CallCheck {
			return c.check(p, err)
		}
		if err != nil {
			(&reporter{out: a.std.Out, err: a.std.Err, inv: inv, mode: progress.Plain}).warn(nil, err)
			return err
		}
		if inv.Call.JSON {
			return subrequest.WriteJSON(a.std.Out, subrequest.NewOutline(p.File, p.Outline))
		}
		return subrequest.PrintOutline(a.std.Out, p.Outline)
	})
}

// answerer prints the answer to --check.
type answerer struct {
	out  io.Writer
	call flags.Call
}

// check prints what lint found. Findings, and err, which stopped the
// planning, make the command fail.
func (c *answerer) check(p *build.Plan, err error) error {
	file, plan := soFar(p, err)
	found := lintWarnings(plan, err)
	name, src := dockerfile(file, err)
	if err != nil && isInfra(err) && len(found) == 0 && !c.call.JSON {
		return err
	}
	if c.call.JSON {
		if perr := subrequest.WriteJSON(c.out, subrequest.NewLint(found, name, src, err)); perr != nil {
			return perr
		}
		if err != nil || len(found) > 0 && !c.call.Lax {
			return &exitError{code: checkCode(err)}
		}
		return nil
	}
	w := c.out
	switch len(found) {
	case 0:
		if err == nil {
			fmt.Fprintln(w, "Check complete, no warnings found.")
		}
	case 1:
		fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	default:
		fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", len(found))
	}
	for _, f := range found {
		printFinding(w, f, src)
	}
	if err != nil {
		return err
	}
	if len(found) > 0 && !c.call.Lax {
		return &exitError{code: checkCode(nil)}
	}
	return nil
}

// checkCode is 1 for findings, as buildx has it, and the usual code for a mistake.
func checkCode(err error) int {
	if err == nil {
		return ExitBuild
	}
	return exitCode(err)
}

// printFinding shows one finding as buildx does for --check.
func printFinding(w io.Writer, f parser.Warning, src []byte) {
	fmt.Fprintf(w, "\nWARNING: %s", f.Rule)
	if f.URL != "" {
		fmt.Fprintf(w, " - %s", f.URL)
	}
	fmt.Fprintf(w, "\n%s\n", f.Message)
	printExcerpt(w, f.File, f.Start, parser.Excerpt(src, f.Start, f.End))
}

// dockerfile is the Dockerfile's name and text, whether or not it could be parsed.
func dockerfile(file *parser.File, err error) (name string, src []byte) {
	var perr *parser.Error
	switch {
	case file != nil:
		return file.Name, file.Source
	case errors.As(err, &perr):
		return perr.File, perr.Source
	}
	return "", nil
}
