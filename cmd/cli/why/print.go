package why

import (
	"fmt"
	"io"
	"strings"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/cache"
	"layered.build/builder/executor/builds"
)

// printBuild says of each step what became of it, and of those that ran why.
func printBuild(w io.Writer, b *builds.Build) error {
	var text strings.Builder
	fmt.Fprintf(&text, "build of %s, %s, took %s\n", b.Dockerfile, ago(b.Started), seconds(b.Duration))
	if len(b.Names) > 0 {
		fmt.Fprintf(&text, "made %s\n", strings.Join(b.Names, ", "))
	}
	for i, s := range b.Steps {
		fmt.Fprintf(&text, "\n%d %s\n", i+1, s.Name)
		outcome(&text, &s)
		differences(&text, &s, 10)
	}
	if b.Error != "" {
		fmt.Fprintf(&text, "\nit failed: %s\n", b.Error)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// printStep says all that is known of one step.
func printStep(w io.Writer, b *builds.Build, s *builds.Step, rec *cache.Record) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n", s.Name)
	if s.Start > 0 {
		lines := fmt.Sprint(s.Start)
		if s.End > s.Start {
			lines += fmt.Sprintf("-%d", s.End)
		}
		fmt.Fprintf(&text, "  %s:%s, stage %s\n", b.Dockerfile, lines, s.Stage)
	}
	outcome(&text, s)
	differences(&text, s, len(s.Changes))
	if s.Key != "" {
		fmt.Fprintf(&text, "  key %s\n", s.Key)
	}
	switch {
	case s.Key == "":
	case rec == nil:
		text.WriteString("  its result is not in the cache any more\n")
	default:
		fmt.Fprintf(&text, "  its result was made %s in %s, of:\n", ago(rec.Created), seconds(rec.Duration))
		for _, p := range rec.Parts {
			if !strings.HasSuffix(p.Name, " "+cache.FilesPart) {
				fmt.Fprintf(&text, "    %s: %s\n", p.Name, shown(p))
			}
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// shown is the value of a part; those of variables are not told.
func shown(p cache.Part) string {
	if p.Name == "env" {
		return "(variables)"
	}
	return p.Value
}

// outcome says what became of a step, and why.
func outcome(text *strings.Builder, s *builds.Step) {
	switch s.Result {
	case builds.Cached:
		fmt.Fprintf(text, "  cached: %s\n", s.Reason)
		return
	case builds.Source:
		text.WriteString("  looked at\n")
		return
	case builds.Failed:
		fmt.Fprintf(text, "  failed after %s at %s: %s\n", seconds(s.Duration), clock(s.Started), s.Error)
	case builds.Canceled:
		text.WriteString("  not done: the build ended before\n")
	default:
		fmt.Fprintf(text, "  ran %s at %s, since:\n", seconds(s.Duration), clock(s.Started))
	}
	for _, why := range s.Why {
		fmt.Fprintf(text, "    %s\n", why)
	}
	for _, place := range s.Places {
		fmt.Fprintf(text, "    %s\n", place)
	}
}

// differences says what a step was compared with, and which parts of its key differ.
func differences(text *strings.Builder, s *builds.Step, most int) {
	if s.Earlier == nil {
		return
	}
	fmt.Fprintf(text, "  compared with its result of %s (%s), which took %s: %s\n",
		s.Earlier.Created.Local().Format(time.DateTime), ago(s.Earlier.Created), seconds(s.Earlier.Duration), s.Earlier.Key)
	for i, c := range s.Changes {
		if i == most {
			break
		}
		fmt.Fprintf(text, "    %s: %s -> %s\n", c.Name, orNone(c.Before), orNone(c.After))
	}
	if more := s.More + len(s.Changes) - min(most, len(s.Changes)); more > 0 {
		fmt.Fprintf(text, "    %d more\n", more)
	}
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func ago(t time.Time) string {
	return strings.ToLower(units.HumanDuration(time.Since(t))) + " ago"
}

func clock(t time.Time) string { return t.Local().Format(time.TimeOnly) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }
