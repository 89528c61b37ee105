package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/progress"
	"layered.build/builder/executor"
	"layered.build/builder/executor/rootless"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry"
)

const rule = "--------------------"

// report prints an error for people: the end of the failed step's log, the lines
// of the Dockerfile, the message, and what to do.
func report(w io.Writer, err error) {
	var exit *exitError
	if err == nil || errors.As(err, &exit) && exit.err == nil {
		return
	}
	var step *executor.StepError
	if errors.As(err, &step) {
		reportLog(w, step)
	}
	reportLines(w, err, step)
	msg := strings.TrimRight(err.Error(), "\n")
	if step != nil {
		msg = "failed to build: " + msg
	}
	fmt.Fprintf(w, "ERROR: %s\n", msg)
	for _, h := range hints(err, step) {
		fmt.Fprintf(w, "hint: %s\n", h)
	}
}

func reportLog(w io.Writer, step *executor.StepError) {
	tail := strings.TrimRight(string(step.LogTail), "\n")
	if tail == "" {
		return
	}
	lines := strings.Split(tail, "\n")
	if n := len(lines) - 20; n > 0 {
		lines = lines[n:]
	}
	fmt.Fprintf(w, "------\n > %s:\n", step.Step.Meta.Name)
	for _, l := range lines {
		if i := strings.LastIndexByte(strings.TrimRight(l, "\r"), '\r'); i >= 0 {
			l = l[i+1:]
		}
		fmt.Fprintf(w, "%s\n", strings.TrimRight(l, "\r"))
	}
	fmt.Fprintln(w, "------")
}

// reportLines shows the lines of the Dockerfile that the error is about.
func reportLines(w io.Writer, err error, step *executor.StepError) {
	if file, at, excerpt := wrongLines(err, step); excerpt != "" {
		printMarked(w, file, at, excerpt)
	}
}

// wrongLines finds the lines of the Dockerfile that the error is about; the excerpt is ""
// if it is about none.
func wrongLines(err error, step *executor.StepError) (file string, at parser.Span, excerpt string) {
	var perr *parser.Error
	if errors.As(err, &perr) {
		return perr.File, perr.Span(), perr.Excerpt()
	}
	var src *build.Error
	if step == nil || !errors.As(err, &src) || len(step.Step.Meta.Locations) == 0 {
		return "", at, ""
	}
	loc := step.Step.Meta.Locations[0]
	if user, ok := userLine(err, src.File, loc.Start); ok {
		loc = user
	}
	part, ok := parser.FindSpan(src.File.Source, loc.Start, loc.End, wrongParts(err)...)
	excerpt = parser.MarkedExcerpt(src.File.Source, loc.Start, loc.End, part)
	if !ok {
		part = parser.WholeSpan(src.File.Source, loc.Start, loc.End)
	}
	return src.File.Name, part, excerpt
}

// locate says where in the Dockerfile an error is, and what to do; nil if neither is
// known.
func locate(err error) *progress.Location {
	var step *executor.StepError
	errors.As(err, &step)
	var l progress.Location
	if file, at, excerpt := wrongLines(err, step); excerpt != "" {
		l = progress.Location{File: file, StartLine: at.Line, EndLine: at.EndLine, StartColumn: at.Col, EndColumn: at.EndCol}
	}
	advice := hints(err, step)
	var perr *parser.Error
	if errors.As(err, &perr) && perr.Hint != "" {
		advice = append([]string{perr.Hint}, advice...)
	}
	if l.Hint = strings.Join(advice, "\n"); l == (progress.Location{}) {
		return nil
	}
	return &l
}

// wrongParts are what an error of a step may be about, as a Dockerfile writes it.
func wrongParts(err error) []string {
	var missing *executor.MissingError
	if errors.As(err, &missing) {
		if missing.Glob != "" {
			return []string{missing.Glob, "/" + missing.Glob, "./" + missing.Glob}
		}
		return []string{missing.Path, "/" + missing.Path, missing.Path + "/", "./" + missing.Path}
	}
	var secret *executor.MissingSecretError
	if errors.As(err, &secret) {
		return []string{"id=" + secret.ID, secret.ID, "type=secret"}
	}
	var agent *executor.MissingAgentError
	if errors.As(err, &agent) {
		return []string{"id=" + agent.ID, "type=ssh"}
	}
	var user *sandbox.UserError
	if errors.As(err, &user) {
		name, group, _ := strings.Cut(user.User, ":")
		return []string{user.User, name, group}
	}
	var step *executor.StepError
	if !errors.As(err, &step) || step.ExitCode != 0 {
		return nil // what the command is wrong about, it says itself
	}
	return parser.NamedParts(step.Err.Error())
}

// userLine is the USER instruction that a step at a line has its user from, if the
// image does not know that user and the step's own stage names it.
func userLine(err error, file *parser.File, line int) (loc dag.Location, found bool) {
	var user *sandbox.UserError
	if !errors.As(err, &user) {
		return loc, false
	}
	start, end := file.UserBefore(line)
	return dag.Location{File: file.Name, Start: start, End: end}, start > 0
}

// printMarked shows lines of a Dockerfile under the position of what is wrong.
func printMarked(w io.Writer, file string, at parser.Span, excerpt string) {
	if excerpt != "" {
		fmt.Fprintf(w, "%s:%s\n%s\n%s%s\n", file, at, rule, excerpt, rule)
	}
}

func printExcerpt(w io.Writer, file string, line int, excerpt string) {
	if excerpt == "" {
		return
	}
	fmt.Fprintf(w, "%s:%d\n%s\n%s%s\n", file, line, rule, excerpt, rule)
}

// hints says what to do about an error.
func hints(err error, step *executor.StepError) []string {
	var out []string
	var usage *mistake.Error
	if errors.As(err, &usage) && usage.Hint != "" {
		out = append(out, usage.Hint)
	}
	var advised *mistake.Advised
	var rerr *registry.Error
	switch isRegistry := errors.As(err, &rerr); {
	case errors.As(err, &advised):
		out = append(out, advised.Hint)
	case isRegistry && rerr.Hint != "":
		out = append(out, rerr.Hint)
	}
	out = append(out, isolationHints(err)...)
	out = append(out, remoteHints(err)...)
	if errors.Is(err, registry.ErrUnreachable) && (rerr == nil || rerr.Hint == "") && advised == nil {
		out = append(out, "is the network up, and the registry's name right?")
	}
	if errors.Is(err, registry.ErrNotFound) && rerr == nil && step == nil {
		out = append(out, "`builder images` lists what the store has; `builder pull` fetches an image")
	}
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		out = append(out, "the disk is full: free some space, or put the store on another one with --root")
	case errors.Is(err, os.ErrPermission) && rootless.HostUID() != 0 && (step == nil || step.ExitCode == 0):
		out = append(out, "--root must name a store that you may write to")
	}
	if step == nil {
		return out
	}
	var denied *executor.NotAllowedError
	if errors.As(step, &denied) {
		out = append(out, "grant it with --allow "+string(denied.Permission))
	}
	out = append(out, missingHint(err)...)
	var secret *executor.MissingSecretError
	if errors.As(step, &secret) {
		out = append(out, fmt.Sprintf("give it with --secret id=%s,src=FILE or --secret id=%s,env=NAME", secret.ID, secret.ID))
	}
	var user *sandbox.UserError
	if errors.As(step, &user) && len(step.Step.Meta.Locations) > 0 {
		out = append(out, fmt.Sprintf("%s in line %d runs as that user, whom the image does not know", step.Step.Meta.Name, step.Step.Meta.Locations[0].Start))
	}
	var leak *executor.LeakError
	if errors.As(step, &leak) {
		out = append(out, "nothing of the step is kept; remove the secret in the RUN that writes it, or allow it with --allow secret.leak or --secret-scan=warn")
	}
	var agent *executor.MissingAgentError
	if errors.As(step, &agent) {
		out = append(out, fmt.Sprintf("give it with --ssh %s (the agent of $SSH_AUTH_SOCK) or --ssh %s=KEYFILE", agent.ID, agent.ID))
	}
	if step.OOM {
		out = append(out, "the step ran out of memory; raise --memory (or --build-memory)")
	}
	var late *executor.TimeoutError
	if errors.As(step, &late) {
		out = append(out, "a step may take longer with --timeout")
	}
	if step.LogPath != "" {
		out = append(out, "the full log is in "+step.LogPath)
	}
	var src *build.Error
	if errors.As(err, &src) && src.Before != "" && step.ExitCode != 0 {
		out = append(out, "to try the step by hand: builder run --rm -it "+src.Before+" sh")
	}
	return out
}

// missingHint says what became of a file that a step looks for.
func missingHint(err error) []string {
	var missing *executor.MissingError
	if !errors.As(err, &missing) {
		return nil
	}
	if missing.Near != "" {
		return []string{fmt.Sprintf("did you mean %s?", missing.Near)}
	}
	var src *build.Error
	if missing.Pattern == "" || !errors.As(err, &src) || src.Ignore == nil {
		return nil
	}
	hidden := missing.Path
	if missing.Hidden != "" {
		hidden = missing.Hidden
	}
	p, excluded := src.Ignore.Excluded(hidden)
	if !excluded {
		return nil
	}
	return []string{fmt.Sprintf("%s:%d excludes it (%s); a later line !%s brings it back", p.File, p.Line, p.Text, hidden)}
}
