package planner

import (
	"context"
	"errors"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
)

func plan(t *testing.T, src string, opts Options) (*Plan, error) {
	t.Helper()
	file, err := parser.Parse("Dockerfile", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if opts.BuildPlatform.OS == "" {
		opts.BuildPlatform = linuxAmd64
	}
	return Build(t.Context(), file, &fakeImages{}, opts)
}

// TestErrors checks text, lines and hint of the mistakes that planning finds.
func TestErrors(t *testing.T) {
	windows := []ocispec.Platform{{OS: "windows", Architecture: "amd64"}}
	arm := []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
	for _, c := range []struct {
		name, src string
		opts      Options
		want      string
	}{
		{"target", "FROM alpine AS build", Options{Target: "bulid"}, `Dockerfile: target stage "bulid" could not be found (did you mean build?)`},
		{"target without a neighbour", "FROM alpine AS build\nFROM alpine", Options{Target: "x"}, `Dockerfile: target stage "x" could not be found (the stages are build, stage-1)`},
		{"target number", "FROM alpine", Options{Target: "1"}, `Dockerfile: target stage "1" could not be found (the stages are stage-0)`},
		{"image", "FROM alpine AS a\nFROM alpin\n", Options{}, `Dockerfile:2: alpin: pull: not found (did you mean alpine?)`},
		{"stage as image", "FROM alpine AS build\nFROM biuld\n", Options{}, `Dockerfile:2: biuld: pull: not found (did you mean build?)`},
		{"image of COPY", "FROM alpine\n\nCOPY --from=nothere /a /b\n", Options{}, `Dockerfile:3: nothere: pull: not found`},
		{"image of a mount", "FROM alpine\nRUN --mount=from=nothere,target=/a true\n", Options{}, `Dockerfile:2: nothere: pull: not found`},
		{"first failing FROM", "FROM nope1 AS a\nFROM nope2\nCOPY --from=a / /", Options{}, `Dockerfile:1: nope1: pull: not found`},
		{"variable in --from", "FROM alpine\nENV x=y\nCOPY --from=$x a b", Options{}, `Dockerfile:3: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround`},
		{"later stage", "FROM alpine\nCOPY --from=late a b\nFROM alpine AS late\nFROM alpine\nCOPY --from=0 / /", Options{}, `Dockerfile:2: cannot copy from stage "late", it needs to be defined before current stage "stage-0"`},
		{"mount of a later stage", "FROM alpine AS x\nRUN --mount=from=late,target=/m true\nFROM x AS late", Options{}, `Dockerfile:2: cannot copy from stage "late", it needs to be defined before current stage "x"`},
		{"own stage", "FROM alpine AS x\nCOPY --from=x a b", Options{}, `Dockerfile:2: cannot copy from stage "x", it needs to be defined before current stage "x"`},
		{"stage index", "FROM alpine\nCOPY --from=7 a b", Options{}, `Dockerfile:2: invalid stage index 7`},
		{"global argument", "ARG FOO\nFROM ${FOO:?\"custom-error\"}", Options{}, `Dockerfile:2: failed to process "${FOO:?\"custom-error\"}": FOO: custom-error`},
		{"argument default", "ARG FOO=${BAR:?missing}\nFROM alpine", Options{}, `Dockerfile:1: failed to process "${BAR:?missing}": BAR: missing`},
		{"blank base", "ARG X\nFROM $X", Options{}, `Dockerfile:2: base name ($X) should not be blank`},
		{"platform variable", "FROM --platform=$BULIDPLATFORM alpine", Options{}, `Dockerfile:1: empty platform value from expression $BULIDPLATFORM (did you mean BUILDPLATFORM?)`},
		{"platform", "FROM --platform=a/b/c/d/e alpine", Options{}, `Dockerfile:1: failed to parse platform a/b/c/d/e: "d/e" is an invalid component of "a/b/c/d/e": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument`},
		{"expansion", "FROM alpine\nENV A=${B", Options{}, `Dockerfile:2: failed to process "${B": syntax error: missing '}'`},
		{"chmod digits", "FROM alpine\nCOPY --chmod=64a a b", Options{}, `Dockerfile:2: invalid chmod parameter: '64a'. it should be octal string and between 0 and 07777, or symbolic such as u=rwX,go=rX`},
		{"chmod range", "FROM alpine\nADD --chmod=10000 a b", Options{}, `Dockerfile:2: invalid chmod parameter: '10000'. it should be octal string and between 0 and 07777, or symbolic such as u=rwX,go=rX`},
		{"chown with link", "FROM alpine\nCOPY --link --chown=me a b", Options{}, `Dockerfile:2: --chown=me: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead`},
		{"chown in scratch", "FROM scratch\nCOPY --chown=me a b", Options{}, `Dockerfile:2: --chown=me: user and group names can't be resolved in scratch, which has no files, use numeric uid[:gid] instead`},
		{"checksum", "FROM alpine\nADD --checksum=sha256:00 a b", Options{}, `Dockerfile:2: checksum requires HTTP(S) or Git sources`},
		{"URL in COPY", "FROM alpine\nCOPY https://example.org/x b", Options{}, `Dockerfile:2: source can't be a URL for COPY: https://example.org/x (did you mean ADD?)`},
		{"git in COPY", "FROM alpine\nCOPY https://example.org/x.git b", Options{}, `Dockerfile:2: source can't be a git ref for COPY: https://example.org/x.git (did you mean ADD?)`},
		{"no text", "FROM alpine\nRUN printf \xff", Options{}, `Dockerfile:2: "printf \xff" is not valid UTF-8`},
		{"no text in an argument", "FROM alpine\nARG A\nRUN x", Options{BuildArgs: map[string]string{"A": "\xff"}}, `Dockerfile:3: "A=\xff" is not valid UTF-8`},
		{"RUN []", "FROM alpine\nRUN []", Options{}, `Dockerfile:2: RUN requires a command`},
		{"mount type", "FROM alpine\nRUN --mount=type=tmp,target=/x true", Options{}, `Dockerfile:2: unsupported mount type "tmp" (did you mean tmpfs?)`},
		{"mount key", "FROM alpine\nRUN --mount=typ=tmpfs,target=/x true", Options{}, `Dockerfile:2: unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)`},
		{"mount target", "FROM alpine\nRUN --mount=type=tmpfs,target=/ true", Options{}, `Dockerfile:2: invalid mount target "/"`},
		{"port", "FROM alpine\nEXPOSE 80/icmp", Options{}, `Dockerfile:2: invalid port: "80/icmp": invalid proto: icmp`},
		{"port number", "FROM alpine\nEXPOSE 70000", Options{}, `Dockerfile:2: invalid containerPort: 70000: "70000" is not a port (0-65535)`},
		{"port range", "FROM alpine\nEXPOSE 9-8", Options{}, `Dockerfile:2: invalid containerPort: 9-8: invalid port range`},
		{"signal", "FROM alpine\nSTOPSIGNAL SIGNOTHING", Options{}, `Dockerfile:2: invalid signal: SIGNOTHING`},
		{"volume", "FROM alpine\nVOLUME $nope", Options{}, `Dockerfile:2: VOLUME specified can not be an empty string`},
		{"epoch", "FROM alpine", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "x"}}, `invalid SOURCE_DATE_EPOCH: x (give seconds since 1970, context, or the name of a context or a stage)`},
		{"epoch in the file", "ARG SOURCE_DATE_EPOCH=x\nFROM alpine", Options{}, `Dockerfile:1: invalid SOURCE_DATE_EPOCH: x (give seconds since 1970, context, or the name of a context or a stage)`},
		{"epoch of an empty stage", "FROM scratch AS src\nFROM alpine", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "SRC"}}, `Dockerfile:1: SOURCE_DATE_EPOCH stage must contain exactly one remote ADD`},
		{"epoch of a stage with RUN", "FROM alpine\nFROM scratch AS src\nRUN x\nFROM alpine", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "SRC"}}, `Dockerfile:2: SOURCE_DATE_EPOCH stage does not meet source-only requirements: unsupported RUN instruction`},
		{"epoch of a stage on an image", "FROM alpine AS src\nFROM alpine", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "SRC"}}, `Dockerfile:1: SOURCE_DATE_EPOCH stage must use FROM scratch`},
		{"epoch of a local file", "FROM scratch AS src\nADD x /\nFROM alpine", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "SRC"}}, `Dockerfile:1: SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD`},
		{"epoch of two sources", "FROM scratch AS src\nADD http://h/x /\nADD http://h/y /\nFROM alpine", Options{BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "SRC"}}, `Dockerfile:1: SOURCE_DATE_EPOCH stage must contain exactly one remote ADD`},

		{"checksum of a directory", "FROM alpine\nADD --checksum=sha256:00 https://example.org/x b /d/", Options{}, `Dockerfile:2: checksum can't be specified for multiple sources`},
		{"checksum of another kind", "FROM alpine\nADD --checksum=md5:7e55db001d319a94b0b713529a756623 https://example.org/x /", Options{}, `Dockerfile:2: checksum md5:7e55db001d319a94b0b713529a756623: unsupported digest algorithm md5, use sha256:<hex>`},
		{"checksum of an unknown kind", "FROM alpine\nARG S=unknown\nADD --checksum=$S:00 https://example.org/x /", Options{}, `Dockerfile:3: checksum unknown:00: unsupported digest algorithm unknown, use sha256:<hex>`},
		{"checksum without a kind", "FROM alpine\nADD --checksum=7e55db001d319a94b0b713529a756623 https://example.org/x /", Options{}, `Dockerfile:2: checksum 7e55db001d319a94b0b713529a756623: invalid checksum digest format, want sha256:<64 hex digits>`},
		{"checksum sha512", "FROM alpine\nADD --checksum=sha512:" + strings.Repeat("0", 128) + " https://example.org/x /", Options{}, `Dockerfile:2: checksum sha512:` + strings.Repeat("0", 128) + `: unsupported digest algorithm sha512, use sha256:<hex>`},
		{"git checksum", "FROM alpine\nADD --checksum=foobar https://example.org/x.git /", Options{}, `Dockerfile:2: invalid checksum foobar for Git URL, expected hex commit hash`},
		{"git checksums", "FROM alpine\nADD --checksum=aa https://example.org/x.git?commit=bb /", Options{}, `Dockerfile:2: checksum mismatch "aa" != "bb"`},
		{"git directory twice", "FROM alpine\nADD --keep-git-dir=false https://example.org/x.git?keep-git-dir /", Options{}, `Dockerfile:2: inconsistent keep-git-dir configuration`},
		{"git directory", "FROM alpine\nADD --keep-git-dir https://example.org/x /", Options{}, `Dockerfile:2: --keep-git-dir requires a Git source`},
		{"git refs", "FROM alpine\nADD https://example.org/x.git?tag=v1#main /", Options{}, `Dockerfile:2: ref conflicts: "main" vs "refs/tags/v1"`},
		{"git query", "FROM alpine\nADD git@example.org:x.git?reff=v1 /", Options{}, `Dockerfile:2: unexpected query "reff"`},
		{"foreign RUN", "FROM alpine\nRUN x", Options{Platforms: arm}, `Dockerfile:2: RUN for platform linux/arm64 on linux/amd64 (it is another kind of processor) is not supported (` + emulationHint + `)`},
		{"foreign stage", "FROM --platform=linux/s390x alpine\nRUN x", Options{CanRun: func(ocispec.Platform) error { return errors.New("no handler") }}, `Dockerfile:2: RUN for platform linux/s390x on linux/amd64 (no handler) is not supported (` + emulationHint + `)`},
		{"foreign system", "FROM scratch\nRUN x", Options{Platforms: windows}, `Dockerfile:2: RUN for platform windows/amd64 on linux/amd64 is not supported (only COPY and ADD work there; FROM --platform=$BUILDPLATFORM runs a stage on this machine)`},
		{"windows", "FROM --platform=windows/amd64 alpine", Options{}, `Dockerfile:1: a base image for Windows is not supported (images for Windows are made FROM scratch with COPY and ADD)`},
		{"frontend", "FROM alpine", Options{BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "mine"}}, `frontend mine is not supported`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := plan(t, c.src, c.opts)
			var e *parser.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, not a *parser.Error", err)
			}
			if e.Error() != c.want {
				t.Errorf("got  %s\nwant %s", e, c.want)
			}
			if got := marked(e); got != marks[c.name] {
				t.Errorf("marked %q, want %q", got, marks[c.name])
			}
			if e.Start > 0 && !strings.Contains(e.Excerpt(), ">>> ") {
				t.Errorf("no excerpt: %q", e.Excerpt())
			}
			refused := strings.HasSuffix(e.Msg, " is not supported")
			if refused != errors.Is(err, parser.ErrUnsupported) {
				t.Errorf("marked as unsupported: %v", !refused)
			}
		})
	}
}

// marks are the parts of the lines that the errors of TestErrors are about, as far
// as one can be told from the rest of the instruction.
var marks = map[string]string{
	"image":                       "alpin",
	"stage as image":              "biuld",
	"image of COPY":               "nothere",
	"image of a mount":            "nothere",
	"first failing FROM":          "nope1",
	"variable in --from":          "--from",
	"later stage":                 "late",
	"mount of a later stage":      "late",
	"own stage":                   "x",
	"stage index":                 "7",
	"global argument":             "${FOO:?\"custom-error\"}",
	"argument default":            "${BAR:?missing}",
	"blank base":                  "$X",
	"platform variable":           "$BULIDPLATFORM",
	"platform":                    "a/b/c/d/e",
	"expansion":                   "${B",
	"chmod digits":                "64a",
	"chmod range":                 "10000",
	"chown with link":             "--chown=me",
	"chown in scratch":            "--chown=me",
	"checksum":                    "--checksum",
	"URL in COPY":                 "https://example.org/x",
	"git in COPY":                 "https://example.org/x.git",
	"no text":                     "printf \xff",
	"mount type":                  "tmp",
	"mount key":                   "typ",
	"mount target":                "/",
	"port":                        "80/icmp",
	"port number":                 "70000",
	"port range":                  "9-8",
	"signal":                      "SIGNOTHING",
	"epoch in the file":           "x",
	"checksum of a directory":     "--checksum",
	"checksum of another kind":    "md5:7e55db001d319a94b0b713529a756623",
	"checksum of an unknown kind": "--checksum",
	"checksum without a kind":     "7e55db001d319a94b0b713529a756623",
	"checksum sha512":             "sha512:" + strings.Repeat("0", 128),
	"git checksum":                "--checksum",
	"git checksums":               "aa",
	"git directory twice":         "--keep-git-dir",
	"git directory":               "--keep-git-dir",
	"git refs":                    "main",
	"git query":                   "reff",
}

// marked is the text below which the excerpt has carets.
func marked(e *parser.Error) string {
	lines := strings.Split(e.Excerpt(), "\n")
	for i, l := range lines {
		if from := strings.Index(l, "^"); from > 0 && strings.HasPrefix(l, "     |") {
			return lines[i-1][from : strings.LastIndex(l, "^")+1]
		}
	}
	return ""
}

// TestUnneededStagesAreNotJudged: a stage that is pruned may be wrong.
func TestUnneededStagesAreNotJudged(t *testing.T) {
	p, err := plan(t, "FROM nothere AS a\nADD https://x/y /\nFROM alpine\nRUN x", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(p.Skipped, " ") != "a" {
		t.Errorf("skipped %v", p.Skipped)
	}
	if _, err := plan(t, "FROM nothere AS a\nFROM alpine", Options{AllStages: true}); err == nil {
		t.Error("--all stages: the missing image is not noticed")
	}
}

func TestTriggerErrorNamesTriggerAndFROM(t *testing.T) {
	images := &fakeImages{configs: map[string]ImageConfig{"bad": {}}}
	for trigger, want := range map[string]string{
		"FORM x":                "Dockerfile:2: ONBUILD trigger \"FORM x\" of the base: unknown instruction: FORM (did you mean FROM?)",
		"FROM x":                "Dockerfile:2: ONBUILD trigger \"FROM x\" of the base: FROM is not allowed here",
		"ONBUILD RUN x":         "Dockerfile:2: ONBUILD trigger \"ONBUILD RUN x\" of the base: chaining ONBUILD is not allowed",
		"RUN a\nRUN b":          "Dockerfile:2: ONBUILD trigger \"RUN a\\nRUN b\" of the base: it should be a single instruction",
		"# check=skip=all\nBAD": "Dockerfile:2: ONBUILD trigger \"# check=skip=all\\nBAD\" of the base: unknown instruction: BAD (did you mean ADD?)",
		"COPY --from=$x a b":    "Dockerfile:2: ONBUILD trigger \"COPY --from=$x a b\" of the base: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
		"STOPSIGNAL nothing":    "Dockerfile:2: invalid signal: nothing",
	} {
		cfg := ImageConfig{}
		cfg.Config.OnBuild = []string{trigger}
		images.configs["bad"] = cfg
		file, err := parser.Parse("Dockerfile", []byte("\nFROM bad\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Build(t.Context(), file, images, Options{BuildPlatform: linuxAmd64})
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

var errRegistry = errors.New("registry unreachable")

type failing struct{ cancel func() }

func (f failing) ResolveImage(ctx context.Context, _ string, _ ocispec.Platform) (*BaseImage, error) {
	if f.cancel != nil {
		f.cancel()
		return nil, ctx.Err()
	}
	return nil, errRegistry
}

func TestResolverErrorsStayVisible(t *testing.T) {
	file, err := parser.Parse("Dockerfile", []byte("FROM x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), file, failing{}, Options{}); !errors.Is(err, errRegistry) {
		t.Errorf("the resolver's error is lost: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("stopped by the user")
	_, err = Build(ctx, file, failing{func() { cancel(cause) }}, Options{})
	var e *parser.Error
	if !errors.Is(err, cause) || errors.As(err, &e) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWarningsBeforeAnErrorAreKept(t *testing.T) {
	_, err := plan(t, "FROM alpine AS Base\nWORKDIR x\nSTOPSIGNAL nothing", Options{})
	var e *parser.Error
	if !errors.As(err, &e) || len(e.Warnings) != 2 {
		t.Fatalf("got %+v", e)
	}
	if e.Warnings[0].Rule != "StageNameCasing" || e.Warnings[1].Rule != "WorkdirRelativePath" {
		t.Errorf("got %+v", e.Warnings)
	}
}
