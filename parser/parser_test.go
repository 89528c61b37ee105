package parser

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// TestErrors checks text, lines and hint of every kind of mistake that parsing
// finds.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name, src, want string // want: what Error returns
		end             int    // last line, 0: same as the first
	}{
		{"empty", "", "Dockerfile: the Dockerfile is empty", 0},
		{"blank", " \n\t\n", "Dockerfile: the Dockerfile is empty", 0},
		{"comments only", "# a\n# b\n", "Dockerfile:2: file with no instructions", 0},
		{"no stage", "ARG A=1\n", "Dockerfile: dockerfile contains no stages to build (begin one with FROM)", 0},
		{"before FROM", "RUN x\n", "Dockerfile:1: no build stage in current context (only ARG may stand before the first FROM)", 0},
		{"unknown instruction", "FROM a\n\nRUN x\nBADCMD y\n", "Dockerfile:4: unknown instruction: BADCMD", 0},
		{"did you mean", "FROM a\nFNTRYPOINT x\n", "Dockerfile:2: unknown instruction: FNTRYPOINT (did you mean ENTRYPOINT?)", 0},
		{"unknown flag", "FROM a\nRUN --mont=target=/e true", "Dockerfile:2: unknown flag: --mont (did you mean mount?)", 0},
		{"continued", "FROM a\nCOPY --form=x \\\n  a \\\n  b\nRUN x", "Dockerfile:2: unknown flag: --form (did you mean from?)", 4},
		{"mount from", "FROM a\nRUN --mount=from=$x,target=/y ls", "Dockerfile:2: 'from' doesn't support variable expansion, define alias stage instead", 0},
		{"copy arguments", "FROM a\nCOPY x\n", "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be determined", 0},
		{"stage name", "FROM a AS 1x\n", "Dockerfile:1: invalid name for build stage: \"1x\", name can't start with a number or contain symbols", 0},
		{"FROM words", "FROM a b\n", "Dockerfile:1: FROM requires either one or three arguments", 0},
		{"ONBUILD ONBUILD", "FROM a\nONBUILD ONBUILD RUN x", "Dockerfile:2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed", 0},
		{"heredoc", "FROM a\nRUN <<E\nx\n", "Dockerfile:2: unterminated heredoc", 3},
		{"heredoc destination", "FROM a\nCOPY x <<E\nE\n", "Dockerfile:2: COPY cannot accept a heredoc as a destination", 3},
		{"escape", "# escape=x\nFROM a\n", "Dockerfile:1: invalid escape token 'x' does not match ` or \\", 0},
		{"directive twice", "# escape=`\n# escape=`\nFROM a\n", "Dockerfile:2: only one escape parser directive can be used", 0},
		{"check option", "# check=what=1\nFROM a\n", "Dockerfile:1: invalid check option \"what\"", 0},
		{"syntax", "# syntax=example.org/mine:1\nFROM a\n", "Dockerfile:1: frontend example.org/mine:1 is not supported (this builder has the Dockerfile frontend (docker/dockerfile) built in and runs no other)", 0},
		{"syntax after shebang", "#!/usr/bin/x\n# syntax=mine\nFROM a\n", "Dockerfile:2: frontend mine is not supported (this builder has the Dockerfile frontend (docker/dockerfile) built in and runs no other)", 0},
		{"healthcheck", "FROM a\nHEALTHCHECK --retries=-1 CMD x", "Dockerfile:2: --retries cannot be negative (-1)", 0},
		{"network", "FROM a\nRUN --network=nowhere x", "Dockerfile:2: invalid network mode \"nowhere\" (use default, none or host)", 0},
		{"security", "FROM a\nRUN --security=none x", "Dockerfile:2: security \"none\" is not valid (use sandbox or insecure)", 0},
		{"shell", "FROM a\nSHELL /bin/sh", "Dockerfile:2: SHELL requires the arguments to be in JSON form (write SHELL [\"/bin/sh\", \"-c\"])", 0},
		{"ttl", "# x\nFROM a\n\n# builder: ttl=soon\n# x\nRUN x\\\ny", "Dockerfile:4: ttl=soon: \"soon\" is not a duration (write 90m, 12h, 1d, 2w or 1d12h; 0 is no-cache)", 0},
		{"ttl without value", "# builder: ttl\nFROM a", "Dockerfile:1: ttl=: \"\" is not a duration (write 90m, 12h, 1d, 2w or 1d12h; 0 is no-cache)", 0},
		{"ttl with more", "FROM a\n# builder: ttl=1d please\nCOPY a b", "Dockerfile:2: ttl=1d please: \"1d please\" is not a duration (write 90m, 12h, 1d, 2w or 1d12h; 0 is no-cache)", 0},
		{"no-cache with value", "FROM a\n#builder:no-cache=true\nADD a b", "Dockerfile:2: no-cache=true: no-cache has no value (write # builder: no-cache)", 0},
		{"two options", "FROM a\n# x\n# builder: no-cache ttl=1d\nRUN x", "Dockerfile:3: # builder: no-cache ttl=1d is not known (write one option in a comment, and each on a line of its own)", 0},
		{"two with a comma", "FROM a\n#builder:no-cache, ttl=1d\nRUN x", "Dockerfile:2: # builder:no-cache, ttl=1d is not known (write one option in a comment, and each on a line of its own)", 0},
		{"two the other way", "FROM a\n# builder: ttl=1d, no-cache\nRUN x", "Dockerfile:2: ttl=1d, no-cache: \"1d, no-cache\" is not a duration (write one option in a comment, and each on a line of its own)", 0},
		{"no-cache with more", "FROM a\n# builder: no-cache foo\nRUN x", "Dockerfile:2: # builder: no-cache foo is not known (write # builder: no-cache)", 0},
		{"no-cache with a dot", "# builder: no-cache.\nFROM a", "Dockerfile:1: # builder: no-cache. is not known (write # builder: no-cache)", 0},
		{"capital option", "FROM a\n# builder: Ttl=0\nRUN x", "Dockerfile:2: # builder: Ttl=0 is not known (write # builder: ttl=0)", 0},
		{"capitals and no duration", "FROM a\n# builder: TTL=1day\nRUN x", "Dockerfile:2: # builder: TTL=1day is not known (write 90m, 12h, 1d, 2w or 1d12h; 0 is no-cache)", 0},
		{"capital builder", "FROM a\n# Builder: no-cache\nRUN x", "Dockerfile:2: # Builder: no-cache is not known (write # builder: no-cache)", 0},
		{"space before the colon", "FROM a\n# builder : ttl=1d\nRUN x", "Dockerfile:2: # builder : ttl=1d is not known (write # builder: ttl=1d)", 0},
		{"ttl with a colon", "FROM a\n# builder: ttl: 1d\nRUN x", "Dockerfile:2: # builder: ttl: 1d is not known (write # builder: ttl=1d)", 0},
		{"mistyped with another", "FROM a\n# builder: No-Cach ttl=1d\nRUN x", "Dockerfile:2: # builder: No-Cach ttl=1d is not known (did you mean no-cache?)", 0},
		{"indented", "FROM a\n \t# builder: ttl=1day\nRUN x", "Dockerfile:2: ttl=1day: \"1day\" is not a duration (write 90m, 12h, 1d, 2w or 1d12h; 0 is no-cache)", 0},
		{"empty comment below", "FROM a\n# builder: no-cache x\n#\nRUN x", "Dockerfile:2: # builder: no-cache x is not known (write # builder: no-cache)", 0},
		{"setting with more", "# builder: secret-scan=warn please\nFROM a", "Dockerfile:1: # builder: secret-scan=warn please is not known (write # builder: secret-scan=error, warn or off)", 0},
		{"setting in capitals", "# builder: Secret-Scan=off\nFROM a", "Dockerfile:1: # builder: Secret-Scan=off is not known (write # builder: secret-scan=error, warn or off)", 0},
		{"setting with spaces", "# builder: mount-key=a, b\nFROM a", "Dockerfile:1: # builder: mount-key=a, b is not known (write # builder: mount-key=FILE, several with commas and no spaces)", 0},
		{"setting too late", "FROM a\n# builder: secret-scan=off\nRUN x", "Dockerfile:2: secret-scan means nothing here (it may stand before the first instruction)", 0},
		{"no-cache misplaced", "FROM a\n# builder: no-cache\nENV a=b", "Dockerfile:2: no-cache means nothing above ENV (it may stand above RUN, COPY and ADD, and above FROM for all of a stage)", 0},
		{"no-cache mistyped", "FROM a\n# builder: no-cach\nRUN x", "Dockerfile:2: # builder: no-cach is not known (did you mean no-cache?)", 0},
		{"long line", "FROM a\nRUN " + strings.Repeat("x", 70000), "Dockerfile:2: dockerfile line greater than max allowed size of 65535", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("Dockerfile", []byte(c.src))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, not an *Error", err)
			}
			if e.Error() != c.want {
				t.Errorf("got  %s\nwant %s", e, c.want)
			}
			if e.Start > 0 {
				end := max(c.end, e.Start)
				if e.End != end {
					t.Errorf("ends at line %d, want %d", e.End, end)
				}
				if !strings.Contains(e.Excerpt(), fmt.Sprintf("%4d | >>> ", e.Start)) {
					t.Errorf("no excerpt:\n%s", e.Excerpt())
				}
			}
		})
	}
}

func TestWarningsBeforeAnErrorAreKept(t *testing.T) {
	_, err := Parse("Dockerfile", []byte("FROM a AS Base\nBADCMD\n"))
	var e *Error
	if !errors.As(err, &e) || len(e.Warnings) != 1 || e.Warnings[0].Rule != "StageNameCasing" {
		t.Errorf("got %+v", e)
	}
}

func TestFile(t *testing.T) {
	src := "\xef\xbb\xbf#syntax = docker/dockerfile:1.7@sha256:00\n# escape=`\n# check=skip=StageNameCasing\nARG A=1\nfrom a as Base\nRUN x `\n  y\nFROM Base as base\n"
	f, err := Parse("d", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(f.Directives); got != "[{syntax docker/dockerfile:1.7@sha256:00 1} {escape ` 2} {check skip=StageNameCasing 3}]" {
		t.Errorf("directives: %s", got)
	}
	if f.EscapeToken != '`' || len(f.MetaArgs) != 1 || len(f.Stages) != 2 || f.Stages[0].Name != "base" {
		t.Errorf("got %+v", f)
	}
	var rules []string
	for _, w := range f.Warnings {
		rules = append(rules, fmt.Sprintf("%s:%d", w.Rule, w.Start))
	}
	want := "FromAsCasing:8 DuplicateStageName:8 ConsistentInstructionCasing:5"
	if got := strings.Join(rules, " "); got != want {
		t.Errorf("warnings %s, want %s", got, want)
	}
}

// TestOwnSyntax names the frontend as mirrors and copies of it are named, and others.
func TestOwnSyntax(t *testing.T) {
	for _, ref := range []string{
		"docker/dockerfile", "docker/dockerfile:1", "docker/dockerfile:1.9-labs", "docker/dockerfile-upstream:master",
		"dockerfile.v0", "docker.io/docker/dockerfile-upstream:master", "index.docker.io/docker/dockerfile:experimental",
		"mirror.example.com/docker/dockerfile:1.9-labs", "localhost:5000/docker/dockerfile",
		"mirror.example.com:5000/hub/docker/dockerfile:1@sha256:" + strings.Repeat("0", 64),
		"ghcr.io/x/docker/dockerfile:1@sha256:" + strings.Repeat("0", 64), "example.com/group/images/dockerfile:1.5",
	} {
		if !OwnSyntax(ref) {
			t.Errorf("%s is Docker's frontend or a copy of it", ref)
		}
		if _, err := Parse("Dockerfile", []byte("# syntax="+ref+"\nFROM a\n")); err != nil {
			t.Error(err)
		}
	}
	for _, ref := range []string{
		"", "mine", "example.com/mine:1", "example.com/dockerfile/mine:1", "docker/dockerfile-plus", "x/twig-dockerfile:1",
		"docker/buildkit-dockerfile", "example.com/frontend:dockerfile", "example.com/frontend@dockerfile",
		"example.com/dockerfile.v0", "dockerfile:5000/mine",
	} {
		if OwnSyntax(ref) {
			t.Errorf("%s is another frontend", ref)
		}
	}
}

// TestInstanceSharesNothing changes an instance and looks at the file.
func TestInstanceSharesNothing(t *testing.T) {
	f, err := Parse("d", []byte("# check=skip=all\nARG X=1\nFROM a\n# check=skip=all\nCOPY $a $b /c/\nENV A=$b\n"))
	if err != nil {
		t.Fatal(err)
	}
	stages, args, err := f.Instance()
	if err != nil {
		t.Fatal(err)
	}
	args[0].Args[0].Key = "changed"
	for _, c := range stages[0].Commands {
		if ex, ok := c.(instructions.SupportsSingleWordExpansion); ok {
			if err := ex.Expand(func(string) (string, error) { return "changed", nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	if src := f.Stages[0].Commands[0].(*instructions.CopyCommand).SourcePaths[0]; src != "$a" {
		t.Errorf("the file's COPY became %s", src)
	}
	again, againArgs, err := f.Instance()
	if err != nil || againArgs[0].Args[0].Key != "X" || len(again[0].Commands) != 2 {
		t.Errorf("got %v %v", againArgs, err)
	}
	if f.MetaArgs[0].Args[0].Key != "X" {
		t.Error("the file changed")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"FROM a\nRUN x\n", "# escape=`\nFROM a\nRUN a `\n b", "# syntax=x\nFROM a", "FROM a\nRUN <<E\nE\n",
		"FROM a\nCOPY [\"a\",\"b\"]\n", "{\"syntax\":\"a\"}", "#!x\n# check=skip=all\nFROM a", "FROM a\nONBUILD RUN x",
		"# check=skip=all;error=true\nFROM a\n# check=skip=x\nRUN y\n", "ARG a\nFROM $a\nHEALTHCHECK NONE",
		"FROM a\nRUN --mount=type=cache,target=/x <<-\"E\" 3<<F\n\tE\nF\n", "\xef\xbb\xbfFROM a\r\nRUN x \\\r\n y\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("Dockerfile", src)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T is not an *Error: %v", err, err)
			}
			lines := strings.Count(string(src), "\n") + 1
			if e.Start > e.End || e.End > lines || e.Start < 0 {
				t.Fatalf("lines %d to %d of %d: %v", e.Start, e.End, lines, e)
			}
			_ = e.Excerpt()
			return
		}
		if len(file.Stages) == 0 {
			t.Fatal("no stages and no error")
		}
		if _, _, err := file.Instance(); err != nil {
			t.Fatalf("parses once and not again: %v", err)
		}
	})
}

// TestParseAge reads durations, and comments that are none of this builder's.
func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90m": 90 * time.Minute, "1d": 24 * time.Hour, "2w": 14 * 24 * time.Hour, "1d12h": 36 * time.Hour,
		"1.5d": 36 * time.Hour, "0s": 0, "1w1d1h1m1s": (8*24+1)*time.Hour + time.Minute + time.Second,
	} {
		if got, err := ParseAge(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "d", "-1d", "1x", "1d1", "1.2.3d", "999999999w", "1d ", "1000000h1000000h1000000h"} {
		if got, err := ParseAge(text); err == nil {
			t.Errorf("%q: %s", text, got)
		}
	}
	f, err := Parse("Dockerfile", []byte("FROM a\n  # builder: ttl=1d\n#\n# Why.\nRUN x"))
	if err != nil {
		t.Fatal(err)
	}
	if got := CommentedReuse(f.Stages[0].Commands[0].(*instructions.RunCommand).Comments()); got.MaxAge != 24*time.Hour {
		t.Errorf("an indented comment is %+v", got)
	}
	for _, c := range []string{
		"builder: the first stage", "builder: go", "builder: name=value", "builders: ttl=x", "the builder: ttl=x",
		"builder: no-caches are kept", "builder no-cache", "builder: it has no-cache", "builder: tty is there", "Builder: ttl is short here",
		"Builder: no-cache, please", "The builder: no-cache", "builder:", "builder: Go 1.24, with ttl", "builder: --no-cache",
	} {
		if _, err := Parse("Dockerfile", []byte("FROM a\n# "+c+"\nRUN x")); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
}
