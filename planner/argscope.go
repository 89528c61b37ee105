package planner

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"layered.build/builder/planner/settings"
	"layered.build/builder/planner/shelltext"
)

// ArgScope says which RUN instructions the value of an ARG reaches.
type ArgScope string

// The scopes of an ARG.
const (
	ArgScopeAll  ArgScope = "all"  // every later RUN of the stage: BuildKit's, and the default
	ArgScopeUsed ArgScope = "used" // those that name it
)

// ParseArgScope reads a scope; "" is the default one.
func ParseArgScope(s string) (ArgScope, bool) {
	scope := ArgScope(s)
	return scope, slices.Contains([]ArgScope{"", ArgScopeAll, ArgScopeUsed}, scope)
}

// reaching are the variables of a RUN, and the arguments among them. Of those that an ARG
// has set it gets the ones that it names, if so is asked: others are no part of its key.
// The epoch is for programs that nobody names.
func (in *instruction) reaching(cmd *instructions.RunCommand, args []string) (settings.Env, []instructions.KeyValuePairOptional) {
	st := in.st
	if in.opts.ArgScope != ArgScopeUsed {
		return st.env, st.buildArgs
	}
	text := strings.Join(slices.Concat(args, cmd.CmdLine), "\n")
	for _, f := range cmd.Files {
		text += "\n" + f.Data
	}
	words := shelltext.Names(text)
	named := func(key string) bool { return key == epochArg || words[key] }
	buildArgs := slices.DeleteFunc(slices.Clone(st.buildArgs), func(a instructions.KeyValuePairOptional) bool { return !named(a.Key) })
	return st.env.Reaching(st.conf.Image.Config.Env, named), buildArgs
}
