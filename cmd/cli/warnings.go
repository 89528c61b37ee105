package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"layered.build/builder/cmd/progress"
	"layered.build/builder/parser"
)

// warn prints what lint found, after all else, and which build arguments nothing
// used. Err is why the build failed: what was found before still counts.
func (j *job) warn(mode progress.Mode, err error) {
	if mode == progress.Quiet || mode == progress.JSON {
		return
	}
	if d, ok := j.syntax(); ok && j.flags.lang.debug {
		fmt.Fprintf(j.app.std.Err, "INFO: # syntax=%s: that frontend is built in, and is not fetched\n", d)
	}
	printWarnings(j.app.std.Err, j.lintWarnings(err), j.source(), j.flags.lang.debug)
	if j.plan == nil {
		return
	}
	for _, name := range j.plan.UnusedArgs {
		meant := ""
		if near, ok := parser.Nearest(name, j.file.ArgNames()); ok {
			meant = fmt.Sprintf(" (did you mean %s?)", near)
		}
		fmt.Fprintf(j.app.std.Err, "WARN: the build argument %s is not used: no ARG declares it%s\n", name, meant)
	}
}

// syntax is the frontend that the Dockerfile names.
func (j *job) syntax() (string, bool) {
	if j.file == nil {
		return "", false
	}
	for _, d := range j.file.Directives {
		if d.Name == "syntax" {
			return d.Value, true
		}
	}
	return "", false
}

// lintWarnings are those of the plan, or those that were found before a mistake,
// by line.
func (j *job) lintWarnings(err error) []parser.Warning {
	var found []parser.Warning
	var perr *parser.Error
	switch {
	case j.plan != nil:
		found = j.plan.Warnings
	case errors.As(err, &perr):
		found = perr.Warnings
	}
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b parser.Warning) int { return cmp.Compare(a.Start, b.Start) })
	return found
}

// source is the Dockerfile.
func (j *job) source() []byte { return j.context.src }

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
