package planner

import (
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
)

// TestRules triggers every rule, BuildKit's with their exact text and address.
func TestRules(t *testing.T) {
	const docs = "https://docs.docker.com/go/dockerfile/rule/"
	foreign := ImageConfig{}
	foreign.Platform = ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for _, c := range []struct {
		src  string
		want string // "line rule url message"
	}{
		{"FROM alpine AS Base", "1 StageNameCasing " + docs + "stage-name-casing/ Stage name 'Base' should be lowercase"},
		{"FROM alpine as base", "1 FromAsCasing " + docs + "from-as-casing/ 'as' and 'FROM' keywords' casing do not match"},
		{"FROM alpine\nRUN a \\\n\n b", "4 NoEmptyContinuation " + docs + "no-empty-continuation/ Empty continuation line"},
		{"FROM alpine\nrun a\nRUN b", "2 ConsistentInstructionCasing " + docs + "consistent-instruction-casing/ Command 'run' should match the case of the command majority (uppercase)"},
		{"FROM alpine AS a\nFROM alpine AS a", "2 DuplicateStageName " + docs + "duplicate-stage-name/ Duplicate stage name \"a\", stage names should be unique"},
		{"FROM alpine AS scratch", "1 ReservedStageName " + docs + "reserved-stage-name/ Stage name should not use the same name as reserved stage \"scratch\""},
		{"FROM alpine\nCMD a", "2 JSONArgsRecommended " + docs + "json-args-recommended/ JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"},
		{"FROM alpine\nMAINTAINER me", "2 MaintainerDeprecated " + docs + "maintainer-deprecated/ Maintainer instruction is deprecated in favor of using label"},
		{"FROM alpine$FOO", "1 UndefinedArgInFrom " + docs + "undefined-arg-in-from/ FROM argument 'FOO' is not declared"},
		{"FROM alpine\nWORKDIR a", "2 WorkdirRelativePath " + docs + "workdir-relative-path/ Relative workdir \"a\" can have unexpected results if the base image changes"},
		{"FROM alpine\nLABEL a=$PAHT", "2 UndefinedVar " + docs + "undefined-var/ Usage of undefined variable '$PAHT' (did you mean $PATH?)"},
		{"FROM alpine\nCMD [\"a\"]\nCMD [\"b\"]", "2 MultipleInstructionsDisallowed " + docs + "multiple-instructions-disallowed/ Multiple CMD instructions should not be used in the same stage because only the last one will be used"},
		{"FROM alpine\nENV a b", "2 LegacyKeyValueFormat " + docs + "legacy-key-value-format/ \"ENV key=value\" should be used instead of legacy \"ENV key value\" format"},
		{"FROM foreign", "1 InvalidBaseImagePlatform  Base image foreign was pulled with platform \"linux/arm64\", expected \"linux/amd64\" for current build"},
		{"FROM --platform=$TARGETPLATFORM alpine", "1 RedundantTargetPlatform " + docs + "redundant-target-platform/ Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"},
		{"FROM alpine\nARG MY_TOKEN", "2 SecretsUsedInArgOrEnv " + docs + "secrets-used-in-arg-or-env/ Do not use ARG or ENV instructions for sensitive data (ARG \"MY_TOKEN\")"},
		{"ARG V\nFROM alpine:$V", "2 InvalidDefaultArgInFrom " + docs + "invalid-default-arg-in-from/ Default value for ARG alpine:$V results in empty or invalid base image name"},
		{"FROM --platform=linux/amd64 alpine", "1 FromPlatformFlagConstDisallowed " + docs + "from-platform-flag-const-disallowed/ FROM --platform flag should not use constant value \"linux/amd64\""},
		{"FROM alpine\nADD ./ignored /x", "2 CopyIgnoredFile " + docs + "copy-ignored-file/ Attempting to Add file \"ignored\" that is excluded by .dockerignore"},
		{"# check=experimental=all\n# something else\nFROM alpine AS a", "3 InvalidDefinitionDescription " + docs + "invalid-definition-description/ Comment for FROM should follow the format: `# a <description>`"},
		{"FROM alpine\nEXPOSE 80/TCP", "2 ExposeProtoCasing " + docs + "expose-proto-casing/ Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"},
		{"FROM alpine\nEXPOSE 1.2.3.4:80:80", "2 ExposeInvalidFormat " + docs + "expose-invalid-format/ EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:80:80'"},

		{"FROM alpine\nRUN <<E\na\nb\nE", "2 HeredocWithoutErrexit  A failing command in the here-document does not fail the RUN, unless it is the last one: begin with `set -e`"},
		{"FROM alpine\nARG GIT_SHA\nRUN make", "2 VolatileArgBeforeRun  ARG GIT_SHA makes RUN instructions that do not use it run again whenever it changes: declare it after them"},
		{"FROM alpine\nWORKDIR /app\nCOPY . .\nRUN true && chown -R me:me /app", "4 RecursiveOwnerChange  chown -R stores the files of /app a second time: use COPY --chown instead"},
		{"FROM alpine\nCOPY x /srv/a/\nRUN chmod -R a+rX /srv", "3 RecursiveOwnerChange  chmod -R stores the files of /srv a second time: use COPY --chmod instead"},
		{"FROM alpine\nCOPY a b \\\n  dest", "2 CopySeveralWithoutSlash  COPY has several sources, and its destination dest does not end with a slash: unless it is a directory, files replace each other there"},
		{"FROM alpine\nADD a* <<E /x\nE", "2 CopySeveralWithoutSlash  ADD has several sources, and its destination /x does not end with a slash: unless it is a directory, files replace each other there"},

		// What is right.
		{"FROM alpine\nRUN <<E\nset -ex\na\nb\nE", ""},
		{"FROM alpine\nRUN <<E\n# one\na && \\\n  b\nE", ""},
		{"FROM alpine\nSHELL [\"/bin/sh\", \"-ec\"]\nRUN <<E\na\nb\nE", ""},
		{"FROM alpine\nRUN <<E\n#!/usr/bin/python3\na\nb\nE", ""},
		{"FROM alpine\nRUN make\nARG GIT_SHA\nRUN echo $GIT_SHA > /v", ""},
		{"FROM alpine\nARG SHARE\nRUN make", ""},
		{"FROM alpine\nCOPY x /srv/a/\nRUN chown me /srv/a && chown -R me /var && cp -R /a /srv/a", ""},
		{"FROM alpine\nENV D=x/\nCOPY a b $D\nCOPY a b .\nCOPY a b ..\nCOPY a b /\nCOPY a* /x", ""},
		{"FROM alpine\n# check=skip=CopySeveralWithoutSlash\nCOPY a b /x", ""},
		{"FROM alpine\n# check=skip=SecretsUsedInArgOrEnv\nARG MY_TOKEN", ""},
		{"# check=skip=HeredocWithoutErrexit;error=true\nFROM alpine\nRUN <<E\na\nb\nE", ""},
		{"FROM alpine\n# check=skip=VolatileArgBeforeRun\nARG BUILD_DATE\nRUN make", ""},
		{"FROM alpine\nCOPY /ignored /x", ""},
	} {
		file, err := parser.Parse("Dockerfile", []byte(c.src))
		if err != nil {
			t.Fatalf("%s: %v", c.src, err)
		}
		images := &fakeImages{configs: map[string]ImageConfig{"foreign": foreign, "alpine:latest": {}}}
		args := map[string]string{}
		if strings.HasPrefix(c.src, "ARG V") {
			args["V"] = "3.20"
		}
		p, err := Build(t.Context(), file, images, Options{BuildPlatform: linuxAmd64, Excludes: []string{"ignored"}, BuildArgs: args})
		if err != nil {
			t.Errorf("%s: %v", c.src, err)
			continue
		}
		var got []string
		for _, w := range p.Warnings {
			got = append(got, fmt.Sprintf("%d %s %s %s", w.Start, w.Rule, w.URL, w.Message))
			if w.Description == "" || w.File != "Dockerfile" {
				t.Errorf("%s: incomplete: %+v", c.src, w)
			}
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.src, strings.Join(got, "\n     "), c.want)
		}
	}
}

// TestAdviceIsNoError: what builds with BuildKit builds here, unless it asks to be judged.
func TestAdviceIsNoError(t *testing.T) {
	p, err := plan(t, "# check=error=true\nFROM alpine\nRUN <<E\na\nb\nE", Options{})
	if err != nil || len(p.Warnings) != 1 {
		t.Errorf("%v %+v", err, p)
	}
	_, err = plan(t, "# check=error=true\nFROM alpine\nRUN <<E\na\nb\nE\nCMD x", Options{})
	if err == nil || err.Error() != "Dockerfile:7: lint violation found for rules: JSONArgsRecommended" {
		t.Errorf("got %v", err)
	}
	_, err = plan(t, "# check=error=true\nFROM alpine\nCOPY a b /x", Options{})
	if err == nil || err.Error() != "Dockerfile:3: lint violation found for rules: CopySeveralWithoutSlash" {
		t.Errorf("got %v", err)
	}
}

// TestChecksOfSteps proves that steps know which of their findings count.
func TestChecksOfSteps(t *testing.T) {
	for _, c := range []struct{ top, above, want string }{
		{"", "", "{[CopySourceReplaced CopyOwnerUnknown] false}"},
		{"# check=error=true", "", "{[CopySourceReplaced CopyOwnerUnknown] true}"},
		{"# check=skip=CopyOwnerUnknown", "", "{[CopySourceReplaced] false}"},
		{"# check=error=true", "# check=skip=CopySourceReplaced", "{[CopyOwnerUnknown] true}"},
		{"# check=skip=all", "", "{[] false}"},
	} {
		p, err := plan(t, c.top+"\nFROM alpine\n"+c.above+"\nCOPY --link a /x\n", Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Graph.Steps {
			if _, ok := s.Op.(*dag.File); ok {
				if got := fmt.Sprint(s.Meta.Checks); got != c.want {
					t.Errorf("%s %s: %s, want %s", c.top, c.above, got, c.want)
				}
			}
		}
	}
}
