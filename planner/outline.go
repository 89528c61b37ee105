package planner

import (
	"cmp"
	"slices"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// Outline is what a target can be given from outside.
type Outline struct {
	Name, Description string // of the target; Name is "" for one without
	Args              []OutlineArg
	Secrets           []OutlineMount
	SSH               []OutlineMount
	Caches            []OutlineMount
}

// OutlineArg is a build argument that the target, or a stage that it needs, uses.
type OutlineArg struct {
	Name string
	// Description is the comment above the ARG, Value what it has in this build.
	Description, Value string
	Location           dag.Location
}

// OutlineMount is a secret, an ssh agent or a cache that a RUN mounts, by its id.
type OutlineMount struct {
	ID       string
	Required bool
	Location dag.Location
}

// Target is a stage of a Dockerfile.
type Target struct {
	Name, Description string
	Default           bool
	// Base and Platform are as written.
	Base, Platform string
	Location       dag.Location
}

// Targets lists the stages of a file in its order.
func Targets(file *parser.File) []Target {
	var out []Target
	for i, st := range file.Stages {
		start, end := parser.Lines(st.Location)
		out = append(out, Target{
			Name: st.Name, Description: st.DocComment, Default: i == len(file.Stages)-1,
			Base: st.BaseName, Platform: st.Platform, Location: dag.Location{File: file.Name, Start: start, End: end},
		})
	}
	return out
}

// outlineArg is an argument that is declared, with the arguments its default uses.
type outlineArg struct {
	OutlineArg
	deps map[string]struct{}
}

// outline collects what one stage declares and uses.
type outline struct {
	args                  map[string]outlineArg
	used                  map[string]bool
	secrets, agents, disk map[string]OutlineMount
}

func newOutline() outline {
	return outline{
		args: map[string]outlineArg{}, used: map[string]bool{},
		secrets: map[string]OutlineMount{}, agents: map[string]OutlineMount{}, disk: map[string]OutlineMount{},
	}
}

// globalOutline describes the arguments before the first FROM.
func (l *lowering) globalOutline(args settings.Env, lex *shell.Lex, cmds []instructions.ArgCommand) {
	l.globalArgs = map[string]outlineArg{}
	for _, cmd := range cmds {
		for _, kv := range cmd.Args {
			a := outlineArg{OutlineArg: OutlineArg{Name: kv.Key, Description: kv.DocComment, Location: l.locations(cmd.Location())[0]}}
			value := kv.Value
			if v, ok := l.args[kv.Key]; ok {
				value = &v
			} else if value != nil {
				res, err := lex.ProcessWordWithMatches(*value, args)
				if err != nil {
					return // metaArgs has reported it
				}
				value, a.deps = &res.Result, res.Matched
				if _, again := a.deps[kv.Key]; again { // ARG a=${a}x: what the earlier one used
					delete(a.deps, kv.Key)
					for k := range l.globalArgs[kv.Key].deps {
						a.deps[k] = struct{}{}
					}
				}
			}
			if value != nil {
				a.Value = *value
				args = args.With(kv.Key, *value)
			}
			l.globalArgs[kv.Key] = a
		}
	}
}

// useInFrom notes the arguments that a FROM names.
func (st *stage) useInFrom(matched map[string]struct{}) {
	for k := range matched {
		st.outline.used[k] = true
	}
}

// outlineArg notes an ARG of a stage. One that only takes over a global argument
// is described where that is declared.
func (in *instruction) outlineArg(a instructions.KeyValuePairOptional, inherited bool, loc []bk.Range) {
	o := &in.st.outline
	o.used[a.Key] = true
	if inherited {
		return
	}
	o.args[a.Key] = outlineArg{OutlineArg: OutlineArg{
		Name: a.Key, Description: a.DocComment, Value: a.ValueString(), Location: in.locations(loc)[0],
	}}
}

// outlineMounts notes the secrets, agents and caches of a RUN.
func (in *instruction) outlineMounts(exec *dag.Exec) {
	o, loc := &in.st.outline, in.locations(in.cmd.Location())[0]
	note := func(to map[string]OutlineMount, id string, required bool) {
		if _, ok := to[id]; !ok {
			to[id] = OutlineMount{ID: id, Required: required, Location: loc}
		}
	}
	for _, s := range exec.SecretEnv {
		note(o.secrets, s.ID, s.Required)
	}
	for _, m := range exec.Mounts {
		switch m.Type {
		case dag.MountSecret:
			note(o.secrets, m.ID, m.Required)
		case dag.MountSSH:
			note(o.agents, m.ID, m.Required)
		case dag.MountCache:
			note(o.disk, m.ID, false)
		}
	}
}

// outlineOf describes a target: what it uses itself first, then its base, then
// the stages that it copies from.
func (l *lowering) outlineOf(target *stage) *Outline {
	out := &Outline{Name: target.def.Name, Description: target.def.DocComment}
	args := map[string]OutlineArg{}
	secrets, agents, disk := map[string]OutlineMount{}, map[string]OutlineMount{}, map[string]OutlineMount{}
	visited := map[*stage]bool{}
	var visit func(*stage)
	visit = func(st *stage) {
		if st == nil || visited[st] {
			return
		}
		visited[st] = true
		l.addArgs(st, args)
		addMissing(secrets, st.outline.secrets)
		addMissing(agents, st.outline.agents)
		addMissing(disk, st.outline.disk)
		visit(st.base)
		for _, c := range st.cmds {
			for _, src := range c.sources {
				if src != nil {
					visit(src.stage)
				}
			}
		}
	}
	visit(target)
	for _, k := range sortedKeys(args) {
		out.Args = append(out.Args, args[k])
	}
	slices.SortStableFunc(out.Args, func(a, b OutlineArg) int { return cmp.Compare(a.Location.Start, b.Location.Start) })
	out.Secrets, out.SSH, out.Caches = byLine(secrets), byLine(agents), byLine(disk)
	return out
}

// addArgs adds the arguments that a stage uses, and those that their defaults use.
func (l *lowering) addArgs(st *stage, to map[string]OutlineArg) {
	seen := map[string]bool{}
	var use func(name string)
	use = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		a, ok := st.outline.args[name]
		if !ok {
			a, ok = l.globalArgs[name]
		}
		for _, dep := range sortedKeys(a.deps) {
			use(dep)
		}
		if _, have := to[name]; ok && !have {
			to[name] = a.OutlineArg
		}
	}
	for _, name := range sortedKeys(st.outline.used) {
		use(name)
	}
}

func addMissing(to, from map[string]OutlineMount) {
	for k, v := range from {
		if _, ok := to[k]; !ok {
			to[k] = v
		}
	}
}

func byLine(m map[string]OutlineMount) []OutlineMount {
	var out []OutlineMount
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	slices.SortStableFunc(out, func(a, b OutlineMount) int { return cmp.Compare(a.Location.Start, b.Location.Start) })
	return out
}
