package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
)

// warn prints what lint found, after all else, and which build arguments nothing
// used. The plan is nil if there is an error: what was found before it still counts.
func (r *reporter) warn(p *build.Plan, err error) {
	file, plan := soFar(p, err)
	if d, ok := syntax(file); ok && r.inv.Debug {
		fmt.Fprintf(r.err, "INFO: # syntax=%s: that frontend is built in, and is not fetched\n", d)
	}
	_, src := dockerfile(file, err)
	printWarnings(r.err, byLine(append(lintWarnings(plan, err), r.found.list()...)), src, r.inv.Debug)
	if plan == nil {
		return
	}
	for _, name := range plan.UnusedArgs {
		meant := ""
		if near, ok := mistake.Nearest(name, file.ArgNames()); ok {
			meant = fmt.Sprintf(" (did you mean %s?)", near)
		}
		fmt.Fprintf(r.err, "WARN: the build argument %s is not used: no ARG declares it%s\n", name, meant)
	}
}

// soFar are the Dockerfile and what was planned, as far as a build that may have failed
// got.
func soFar(p *build.Plan, err error) (*parser.File, *planner.Plan) {
	var known *build.Error
	switch {
	case p != nil:
		return p.File, p.Plan
	case errors.As(err, &known):
		return known.File, known.Plan
	}
	return nil, nil
}

// syntax is the frontend that the Dockerfile names.
func syntax(file *parser.File) (string, bool) {
	if file == nil {
		return "", false
	}
	for _, d := range file.Directives {
		if d.Name == "syntax" {
			return d.Value, true
		}
	}
	return "", false
}

// lintWarnings are those of the plan, or those that were found before a mistake,
// by line.
func lintWarnings(p *planner.Plan, err error) []parser.Warning {
	var found []parser.Warning
	var perr *parser.Error
	switch {
	case p != nil:
		found = p.Warnings
	case errors.As(err, &perr):
		found = perr.Warnings
	}
	return byLine(slices.Clone(found))
}

// byLine sorts warnings in place.
func byLine(found []parser.Warning) []parser.Warning {
	slices.SortStableFunc(found, func(a, b parser.Warning) int { return cmp.Compare(a.Start, b.Start) })
	return found
}

// findings collects what steps found about the lines that they are of. The zero value is
// ready.
type findings struct {
	mu  sync.Mutex // guards all
	all []parser.Warning
}

// observe is told of a build's events, by many goroutines.
func (f *findings) observe(ev executor.Event) {
	if ev.Rule == "" || ev.Step == nil || len(ev.Step.Meta.Locations) == 0 {
		return
	}
	at := ev.Step.Meta.Locations[0]
	w := parser.Warning{
		Rule: progress.Printable(string(ev.Rule)), Description: ev.Rule.Description(), Message: progress.Printable(string(ev.Data)),
		File: at.File, Start: at.Start, End: at.End,
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.all, w) {
		f.all = append(f.all, w)
	}
}

// list is what was found so far.
func (f *findings) list() []parser.Warning {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.all)
}

// printWarnings shows lint findings as buildx does: one line each, or all that is
// known of them.
func printWarnings(w io.Writer, found []parser.Warning, src []byte, expand bool) {
	if len(found) == 0 {
		return
	}
	text := "1 warning found"
	if n := len(found); n > 1 {
		text = fmt.Sprintf("%d warnings found", n)
	}
	if !expand {
		text += " (use --debug to expand)"
	}
	fmt.Fprintf(w, "\n %s:\n", text)
	for _, f := range found {
		line := ""
		if f.Start > 0 {
			line = fmt.Sprintf(" (line %d)", f.Start)
		}
		fmt.Fprintf(w, " - %s: %s%s\n", f.Rule, f.Message, line)
		if !expand {
			continue
		}
		fmt.Fprintln(w, f.Description)
		if f.URL != "" {
			fmt.Fprintf(w, "More info: %s\n", f.URL)
		}
		printExcerpt(w, f.File, f.Start, parser.Excerpt(src, f.Start, f.End))
		fmt.Fprintln(w)
	}
}
