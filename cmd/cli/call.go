package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/parser"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
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
			return c.targets(file)
		}
		p, err := j.Plan(ctx)
		if inv.Call.What == flags.CallCheck {
			return c.check(p, err)
		}
		if err != nil {
			(&reporter{out: a.std.Out, err: a.std.Err, inv: inv, mode: progress.Plain}).warn(nil, err)
			return err
		}
		return c.outline(p)
	})
}

// answerer prints the answer to a --call.
type answerer struct {
	out  io.Writer
	call flags.Call
}

// location is a position in the form of BuildKit's subrequests.
type location struct {
	Ranges []lineRange `json:"ranges,omitempty"`
}

type lineRange struct {
	Start linePos `json:"start"`
	End   linePos `json:"end"`
}

type linePos struct {
	Line int `json:"line,omitempty"`
}

// lines makes one range for each line, as BuildKit does.
func lines(start, end int) *location {
	if start == 0 {
		return nil
	}
	l := &location{}
	for n := start; n <= max(start, end); n++ {
		l.Ranges = append(l.Ranges, lineRange{linePos{n}, linePos{n}})
	}
	return l
}

func at(l dag.Location) *location { return lines(l.Start, l.End) }

func (c *answerer) json(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

type checkWarning struct {
	RuleName    string    `json:"ruleName"`
	Description string    `json:"description,omitempty"`
	URL         string    `json:"url,omitempty"`
	Detail      string    `json:"detail,omitempty"`
	Location    *location `json:"location,omitempty"`
}

type checkSource struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Data     []byte `json:"data"`
}

type checkError struct {
	Message  string    `json:"message"`
	Location *location `json:"location,omitempty"`
}

type checkResult struct {
	Warnings []checkWarning `json:"warnings"`
	Sources  []checkSource  `json:"sources"`
	Error    *checkError    `json:"buildError,omitempty"`
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
		if perr := c.json(newCheckResult(found, name, src, err)); perr != nil {
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

func newCheckResult(found []parser.Warning, name string, src []byte, err error) checkResult {
	res := checkResult{
		Warnings: []checkWarning{},
		Sources:  []checkSource{{Filename: name, Language: "Dockerfile", Data: src}},
	}
	for _, f := range found {
		res.Warnings = append(res.Warnings, checkWarning{
			RuleName: f.Rule, Description: f.Description, URL: f.URL, Detail: f.Message, Location: lines(f.Start, f.End),
		})
	}
	if err != nil {
		res.Error = &checkError{Message: err.Error()}
		var perr *parser.Error
		if errors.As(err, &perr) {
			res.Error.Location = lines(perr.Start, perr.End)
		}
	}
	return res
}

type outlineArg struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Value       string    `json:"value,omitempty"`
	Location    *location `json:"location,omitempty"`
}

type outlineMount struct {
	Name     string    `json:"name"`
	Required bool      `json:"required,omitempty"`
	Location *location `json:"location,omitempty"`
}

type outlineCache struct {
	ID       string    `json:"ID"`
	Location *location `json:"location,omitempty"`
}

type outlineResult struct {
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Args        []outlineArg   `json:"args,omitempty"`
	Secrets     []outlineMount `json:"secrets,omitempty"`
	SSH         []outlineMount `json:"ssh,omitempty"`
	Cache       []outlineCache `json:"cache,omitempty"`
	Sources     [][]byte       `json:"sources,omitempty"`
}

func (c *answerer) outline(p *build.Plan) error {
	o := p.Outline
	if !c.call.JSON {
		return printOutline(c.out, o)
	}
	res := outlineResult{Name: o.Name, Description: o.Description, Sources: [][]byte{p.File.Source}}
	for _, a := range o.Args {
		res.Args = append(res.Args, outlineArg{a.Name, a.Description, a.Value, at(a.Location)})
	}
	for _, m := range o.Secrets {
		res.Secrets = append(res.Secrets, outlineMount{m.ID, m.Required, at(m.Location)})
	}
	for _, m := range o.SSH {
		res.SSH = append(res.SSH, outlineMount{m.ID, m.Required, at(m.Location)})
	}
	for _, m := range o.Caches {
		res.Cache = append(res.Cache, outlineCache{m.ID, at(m.Location)})
	}
	return c.json(res)
}

// printOutline writes the tables that buildx writes, and one of the caches.
func printOutline(out io.Writer, o *planner.Outline) error {
	if o.Name != "" || o.Description != "" {
		name := o.Name
		if name == "" {
			name = "(default)"
		}
		rows := [][]string{{"TARGET:", name}}
		if o.Description != "" {
			rows = append(rows, []string{"DESCRIPTION:", o.Description})
		}
		if err := table(out, 1, rows); err != nil {
			return err
		}
	}
	rows := [][]string{{"BUILD ARG", "VALUE", "DESCRIPTION"}}
	for _, a := range o.Args {
		rows = append(rows, []string{a.Name, a.Value, a.Description})
	}
	if err := table(out, 3, rows); err != nil {
		return err
	}
	for _, t := range []struct {
		title  string
		mounts []planner.OutlineMount
	}{{"SECRET", o.Secrets}, {"SSH", o.SSH}} {
		rows := [][]string{{t.title, "REQUIRED"}}
		for _, m := range t.mounts {
			required := ""
			if m.Required {
				required = "true"
			}
			rows = append(rows, []string{m.ID, required})
		}
		if err := table(out, 3, rows); err != nil {
			return err
		}
	}
	rows = [][]string{{"CACHE"}}
	for _, m := range o.Caches {
		rows = append(rows, []string{m.ID})
	}
	return table(out, 3, rows)
}

// table writes rows and an empty line; nothing if there is only a head.
func table(out io.Writer, padding int, rows [][]string) error {
	if len(rows) < 2 && !strings.HasSuffix(rows[0][0], ":") {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, padding, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out)
	return err
}

type targetEntry struct {
	Name        string    `json:"name,omitempty"`
	Default     bool      `json:"default,omitempty"`
	Description string    `json:"description,omitempty"`
	Base        string    `json:"base,omitempty"`
	Platform    string    `json:"platform,omitempty"`
	Location    *location `json:"location,omitempty"`
}

type targetsResult struct {
	Targets []targetEntry `json:"targets"`
	Sources [][]byte      `json:"sources"`
}

func (c *answerer) targets(file *parser.File) error {
	res := targetsResult{Sources: [][]byte{file.Source}}
	w := tabwriter.NewWriter(c.out, 0, 0, 1, ' ', 0)
	fmt.Fprint(w, "TARGET\tDESCRIPTION\n")
	for _, t := range planner.Targets(file) {
		res.Targets = append(res.Targets, targetEntry{t.Name, t.Default, t.Description, t.Base, t.Platform, at(t.Location)})
		name := t.Name
		switch {
		case t.Default && name == "":
			name = "(default)"
		case t.Default:
			name += " (default)"
		}
		fmt.Fprintf(w, "%s\t%s\n", name, t.Description)
	}
	if c.call.JSON {
		return c.json(res)
	}
	return w.Flush()
}
