package planner

import (
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/util/suggest"
	"github.com/moby/patternmatcher"

	"layered.build/builder/parser/imageref"
	"layered.build/builder/planner/settings"
)

// The rules below are BuildKit's, which keeps them beside its LLB conversion
// (dockerfile2llb/validations.go) where they cannot be imported from.

// lintUndefined warns of variables that nothing defines.
func (in *instruction) lintUndefined(unmatched map[string]struct{}) {
	for _, name := range sortedKeys(unmatched) {
		if slices.ContainsFunc(in.st.buildArgs, func(kv instructions.KeyValuePairOptional) bool { return kv.Key == name }) {
			continue
		}
		match, _ := suggest.Search(name, in.st.env.Keys(), true)
		in.lint.Run(&linter.RuleUndefinedVar, in.cmd.Location(), linter.RuleUndefinedVar.Format(name, match))
	}
}

// lintFromArgs warns of arguments in a FROM that are not declared before.
func (l *lowering) lintFromArgs(unmatched map[string]struct{}, loc []bk.Range, lint *linter.Linter) {
	known := append(sortedKeys(l.declared), l.globals.Keys()...)
	for _, name := range sortedKeys(unmatched) {
		if slices.Contains(known, name) {
			continue
		}
		match, _ := suggest.Search(name, known, true)
		lint.Run(&linter.RuleUndefinedArgInFrom, loc, linter.RuleUndefinedArgInFrom.Format(name, match))
	}
}

// lintPlatform looks at FROM --platform: one that says nothing, and a constant.
func (l *lowering) lintPlatform(def instructions.Stage, res shell.ProcessWordResult, lint *linter.Linter) {
	if len(res.Matched) == 1 && len(res.Unmatched) == 0 {
		_, is := res.Matched["TARGETPLATFORM"]
		if v, _ := l.globals.Get("TARGETPLATFORM"); is && v == res.Result {
			lint.Run(&linter.RuleRedundantTargetPlatform, def.Location, linter.RuleRedundantTargetPlatform.Format(def.Platform))
		}
	}
	if len(res.Matched)+len(res.Unmatched) > 0 {
		return
	}
	p, err := platforms.Parse(res.Result)
	if err != nil || strings.Contains(def.Name, p.OS) || strings.Contains(def.Name, p.Architecture) {
		return
	}
	lint.Run(&linter.RuleFromPlatformFlagConstDisallowed, def.Location,
		linter.RuleFromPlatformFlagConstDisallowed.Format(res.Result))
}

// lintDefaultArgs warns of a FROM that is only right if a build argument is given.
func (l *lowering) lintDefaultArgs(defs []instructions.Stage, args settings.Env, cmds []instructions.ArgCommand) {
	args, _, err := metaArgs(args, l.lex, cmds, nil)
	if err != nil {
		return // reported when the real values are computed
	}
	for _, def := range defs {
		res, err := l.lex.ProcessWordWithMatches(def.BaseName, args)
		if err != nil {
			return
		}
		if _, err := imageref.Parse(res.Result); err != nil {
			l.lint.Run(&linter.RuleInvalidDefaultArgInFrom, def.Location, linter.RuleInvalidDefaultArgInFrom.Format(def.BaseName))
		}
	}
}

// lintBasePlatform warns of an image that is not made for the platform.
func (l *lowering) lintBasePlatform(st *stage) {
	want, have := platforms.Normalize(st.platform), platforms.Normalize(st.image.Config.Platform)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		l.lint.Run(&linter.RuleInvalidBaseImagePlatform, st.def.Location,
			linter.RuleInvalidBaseImagePlatform.Format(st.from, platforms.FormatAll(want), platforms.FormatAll(have)))
	}
}

// lintOnce warns of an instruction that an equal later one makes useless. It
// reports the earlier one.
func (in *instruction) lintOnce() {
	kind := strings.ToUpper(in.cmd.Name())
	if earlier, ok := in.st.once[kind]; ok {
		in.lint.Run(&linter.RuleMultipleInstructionsDisallowed, earlier.Location(),
			linter.RuleMultipleInstructionsDisallowed.Format(in.cmd.Name()))
	}
	in.st.once[kind] = in.cmd.Command
}

// lintShellForm recommends the JSON form.
func (in *instruction) lintShellForm() {
	if len(in.st.conf.Image.Config.Shell) == 0 {
		in.lint.Run(&linter.RuleJSONArgsRecommended, in.cmd.Location(), linter.RuleJSONArgsRecommended.Format(in.cmd.Name()))
	}
}

func (in *instruction) lintLegacy(kv instructions.KeyValuePair) {
	if kv.NoDelim {
		in.lint.Run(&linter.RuleLegacyKeyValueFormat, in.cmd.Location(), linter.RuleLegacyKeyValueFormat.Format(in.cmd.Name()))
	}
}

// Expressions are compiled at their first use: the program also starts once for
// every RUN.
var (
	secretName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(?:_|^)(?:apikey|auth|credential|credentials|key|password|pword|passwd|secret|token)(?:_|$)`)
	})
	publicName = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`)
	})
)

// lintSecret warns of a name that sounds like a secret, which would stay in the
// image.
func (in *instruction) lintSecret(instruction, key string) {
	if secretName().MatchString(key) && !publicName().MatchString(key) {
		in.lint.Run(&linter.RuleSecretsUsedInArgOrEnv, in.cmd.Location(), linter.RuleSecretsUsedInArgOrEnv.Format(instruction, key))
	}
}

// lintIgnored warns of a source that the ignore file leaves out.
func (in *instruction) lintIgnored(keyword, src string) {
	m := in.ignored
	if m == nil || m.Exclusions() {
		return // what "!" brings back cannot be told without the files
	}
	if (src == "." || src == "/") && !slices.ContainsFunc(m.Patterns(), func(p *patternmatcher.Pattern) bool {
		return slices.Contains([]string{"*", "**", "**/*"}, p.String())
	}) {
		return
	}
	if ok, err := m.MatchesOrParentMatches(src); err == nil && ok {
		in.lint.Run(&linter.RuleCopyIgnoredFile, in.cmd.Location(), linter.RuleCopyIgnoredFile.Format(keyword[:1]+strings.ToLower(keyword[1:]), src))
	}
}
