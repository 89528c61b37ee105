package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"layered.build/builder/cmd/build"
	"layered.build/builder/parser"
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
	printWarnings(r.err, lintWarnings(plan, err), src, r.inv.Debug)
	if plan == nil {
		return
	}
	for _, name := range plan.UnusedArgs {
		meant := ""
		if near, ok := parser.Nearest(name, file.ArgNames()); ok {
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
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b parser.Warning) int { return cmp.Compare(a.Start, b.Start) })
	return found
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
