package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"layered.build/builder/cmd/progress"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
)

// What --call can ask for.
const (
	callBuild   = "build"
	callCheck   = "check"
	callOutline = "outline"
	callTargets = "targets"
)

// call is a parsed --call.
type call struct {
	what string
	json bool
	// lax makes findings of a check no failure (ignorestatus).
	lax bool
}

// parseCall reads --call and --check: NAME[,format=text|json][,ignorestatus[=BOOL]].
func (l *langFlags) parseCall() (call, error) {
	text := l.call
	if l.check {
		if text != callBuild && text != "" && text != callCheck {
			return call{}, mistake.New("--check and --call=%s cannot be combined", text)
		}
		text = callCheck
	}
	name, rest, _ := strings.Cut(text, ",")
	c := call{what: name}
	switch name {
	case "lint":
		c.what = callCheck
	case "", callBuild:
		c.what = callBuild
	case callCheck, callOutline, callTargets:
	default:
		return c, mistake.Unsupported("--call="+name, "use build, check, outline or targets")
	}
	for option := range strings.SplitSeq(rest, ",") {
		switch option {
		case "", "format=text", "ignorestatus=false":
		case "format=json":
			c.json = true
		case "ignorestatus", "ignorestatus=true":
			c.lax = true
		default:
			return c, mistake.New("--call=%s: unknown option %q", text, option).WithHint("use format=text, format=json or ignorestatus")
		}
	}
	return c, nil
}

// answer does what --call asks for instead of building.
func (j *job) answer(ctx context.Context) (err error) {
	if j.display, err = progress.New(progress.Quiet, j.app.std.Err); err != nil {
		return err
	}
	if j.call.what == callTargets {
		return j.answerTargets(ctx)
	}
	err = errors.Join(j.makePlan(ctx), j.display.Close())
	if j.call.what == callCheck {
		return j.answerCheck(err)
	}
	if err != nil {
		j.warn(progress.Plain, err)
		return j.explain(err)
	}
	return j.answerOutline()
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

func (j *job) printJSON(v any) error {
	enc := json.NewEncoder(j.app.std.Out)
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

// answerCheck prints what lint found. Findings, and err, which stopped the
// planning, make the command fail.
func (j *job) answerCheck(err error) error {
	found := j.lintWarnings(err)
	if err != nil && isInfra(err) && len(found) == 0 && !j.call.json {
		return j.explain(err)
	}
	if j.call.json {
		if perr := j.printJSON(j.checkResult(found, err)); perr != nil {
			return perr
		}
		if err != nil || len(found) > 0 && !j.call.lax {
			return &exitError{code: checkCode(err)}
		}
		return nil
	}
	w := j.app.std.Out
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
		printFinding(w, f, j.source())
	}
	if err != nil {
		return j.explain(err)
	}
	if len(found) > 0 && !j.call.lax {
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

func (j *job) checkResult(found []parser.Warning, err error) checkResult {
	res := checkResult{
		Warnings: []checkWarning{},
		Sources:  []checkSource{{Filename: j.context.name, Language: "Dockerfile", Data: j.source()}},
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

func (j *job) answerOutline() error {
	o := j.plan.Outline
	if !j.call.json {
		return printOutline(j.app.std.Out, o)
	}
	res := outlineResult{Name: o.Name, Description: o.Description, Sources: [][]byte{j.source()}}
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
	return j.printJSON(res)
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

func (j *job) answerTargets(ctx context.Context) error {
	err := j.loadRemote(ctx)
	if err != nil {
		return errors.Join(err, j.display.Close())
	}
	file, err := parser.Parse(j.context.name, j.source())
	if err != nil {
		return errors.Join(err, j.display.Close())
	}
	if err := j.display.Close(); err != nil {
		return err
	}
	res := targetsResult{Sources: [][]byte{j.source()}}
	w := tabwriter.NewWriter(j.app.std.Out, 0, 0, 1, ' ', 0)
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
	if j.call.json {
		return j.printJSON(res)
	}
	return w.Flush()
}
