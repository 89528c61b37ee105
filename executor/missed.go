package executor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// names are the cache.Record.Names of a step.
func names(step *dag.Step) []string {
	if len(step.Meta.Alike) == 0 {
		return []string{cache.NameOf(step.Meta.Name)}
	}
	out := make([]string, len(step.Meta.Alike))
	for i, text := range step.Meta.Alike {
		out[i] = cache.NameOf(text)
	}
	return out
}

// earlier finds the record that a node was made with before: that of its instruction, or
// of one in its place that is not there any more. It is nil if there is none.
func (r *run) earlier(ctx context.Context, h cache.History, n *node) *cache.Record {
	for i, name := range n.names {
		rec, err := h.Latest(ctx, r.opts.Project, name)
		if err != nil || i > 0 && r.hasStep(rec.Names) {
			continue
		}
		return rec
	}
	return nil
}

// hasStep reports whether a node has the surest of some names.
func (r *run) hasStep(names []string) bool {
	return len(names) > 0 && slices.ContainsFunc(r.nodes, func(n *node) bool { return n.names[0] == names[0] })
}

// Lookup is what the cache said of a step.
type Lookup struct {
	// Key is the definition key.
	Key cache.Key
	// Reasons say in words why the step runs: all that changed. Empty for one that is
	// cached.
	Reasons []string
	// Places says which shared caches had no entry either.
	Places []string
	// Changes are the components of the key that differ from those of Earlier, without
	// values of variables.
	Changes []Change
	// Earlier is the record that the step was compared with; nil if there was none.
	Earlier *cache.Record
}

// Reason says in a few words why the step runs.
func (l *Lookup) Reason() string {
	const most = 3
	words := slices.Clone(l.Reasons)
	if more := len(words) - most; more > 0 {
		words = append(words[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(append(words, l.Places...), ", ")
}

// whyMissed compares a node's key with that of the latest step of its names.
func (r *run) whyMissed(ctx context.Context, n *node) *Lookup {
	l := &Lookup{Key: n.key}
	if n.tooOld != nil {
		l.Earlier, l.Reasons = n.tooOld, []string{describeAge(n.tooOld, n.maxAge)}
		return l
	}
	h, ok := r.opts.Cache.(cache.History)
	if !ok {
		l.Reasons = []string{"not in the cache"}
		return l
	}
	if l.Earlier = r.earlier(ctx, h, n); l.Earlier == nil {
		l.Reasons = []string{"first time here"}
		if words := r.describeElsewhere(ctx, n); len(words) > 0 {
			l.Reasons = words
		}
		return l
	}
	changes := diffParts(l.Earlier.Parts, n.parts)
	l.Reasons = describe(n.step, changes)
	for _, c := range changes {
		if c.Name == "env" {
			l.Changes = append(l.Changes, envChanges(n.step, c)...)
		} else {
			l.Changes = append(l.Changes, c)
		}
	}
	if len(changes) == 0 {
		l.Reasons = []string{"the layers of its earlier result are gone"}
		if name, ok := n.freshInput(); ok {
			l.Reasons = []string{"the result of " + name + " changed"}
		}
	}
	return l
}

// elsewhere is implemented by caches that know what others have made.
type elsewhere interface {
	// Elsewhere returns what was hashed into the key of the latest step of a name that
	// others have made, and what is now; of values only what stands for them. Nothing is
	// returned if there is none.
	Elsewhere(ctx context.Context, name string, parts []cache.Part) (before, after []cache.Part)
}

// describeElsewhere says what changed since others made a step that was never made here.
func (r *run) describeElsewhere(ctx context.Context, n *node) []string {
	e, ok := r.opts.Cache.(elsewhere)
	if !ok {
		return nil
	}
	before, after := e.Elsewhere(ctx, n.names[0], n.parts)
	if before == nil {
		return nil
	}
	return describe(n.step, diffParts(before, after))
}

// diffParts lists the components that differ. The digest of an input is left out
// where its details tell more, and a directory where its files do.
func diffParts(before, after []cache.Part) []Change {
	was := map[string]string{}
	for _, p := range before {
		was[p.Name] = p.Value
	}
	var out []Change
	listings := map[string]*cache.Listings{} // by input
	for _, p := range after {
		v, ok := was[p.Name]
		delete(was, p.Name)
		if input, is := strings.CutSuffix(p.Name, " "+cache.FilesPart); is {
			listings[input] = cache.ReadListings(v, p.Value)
		} else if !ok || v != p.Value {
			out = append(out, Change{p.Name, v, p.Value})
		}
	}
	for _, p := range before {
		if v, ok := was[p.Name]; ok && !strings.HasSuffix(p.Name, " "+cache.FilesPart) {
			out = append(out, Change{p.Name, v, ""})
		}
	}
	detailed := func(c Change) bool {
		return slices.ContainsFunc(out, func(o Change) bool { return strings.HasPrefix(o.Name, c.Name+" ") })
	}
	return withFiles(slices.DeleteFunc(out, detailed), listings)
}

// withFiles puts the files that differ in place of the directories that they are in.
func withFiles(changes []Change, listings map[string]*cache.Listings) []Change {
	var out []Change
	for _, c := range changes {
		word, rest, _ := strings.Cut(c.Name, " ")
		number, dir, ok := strings.Cut(rest, " ")
		input := word + " " + number
		l := listings[input]
		if !ok || l == nil || c.Before == "" || c.After == "" {
			out = append(out, c)
			continue
		}
		paths, before, after := l.Differ(dir)
		if len(paths) == 0 {
			out = append(out, c)
		}
		for _, p := range paths {
			out = append(out, Change{input + " " + p, before[p], after[p]})
		}
	}
	return out
}
