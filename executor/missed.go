package executor

import (
	"context"
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

// whyMissed compares a node's key with that of the latest step of its names.
func (r *run) whyMissed(ctx context.Context, n *node) ([]Change, string) {
	if n.tooOld != nil {
		return nil, describeAge(n.tooOld, n.maxAge)
	}
	h, ok := r.opts.Cache.(cache.History)
	if !ok {
		return nil, "not in the cache"
	}
	last := r.earlier(ctx, h, n)
	if last == nil {
		return nil, "first time here"
	}
	changes := diffParts(last.Parts, n.parts)
	if name, ok := n.freshInput(); ok && len(changes) == 0 {
		return nil, "the result of " + name + " changed"
	}
	if len(changes) == 0 {
		return nil, "the layers of its earlier result are gone"
	}
	return changes, r.describe(n, changes)
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
