package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// places is implemented by caches that have asked others too.
type places interface {
	// Places names those that had no record, for people.
	Places() []string
}

// why says in a few words why a node runs whose inputs are done.
func (r *run) why(ctx context.Context, n *node) string {
	_, reason := r.whyMissed(ctx, n)
	if p, ok := r.opts.Cache.(places); ok {
		for _, name := range p.Places() {
			reason += ", no entry in " + name
		}
	}
	return reason
}

// imageDetail is what an input that is an image adds to the components of a key, so that
// it can be told that a base image moved. It is not hashed again.
func imageDetail(in *node) []cache.Part {
	src, ok := in.step.Op.(*dag.Source)
	if !ok || src.Image == nil {
		return nil
	}
	return []cache.Part{{Name: imagePart, Value: src.Image.Ref + "@" + src.Image.Digest}}
}

const imagePart = "base image"

// describe says in words what changed. What the instruction itself says comes first: that
// an input is another follows from other steps, which tell why.
func (r *run) describe(n *node, changes []Change) string {
	const most = 3
	var own, inputs []string
	for _, c := range changes {
		if rest, ok := strings.CutPrefix(c.Name, "input "); ok {
			inputs = append(inputs, describeInput(n, rest, c))
		} else {
			own = append(own, describeOwn(n.step, c)...)
		}
	}
	words := slices.Concat(own, inputs)
	if more := len(words) - most; more > 0 {
		words = append(words[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}

// describeInput is about "N" or "N PATH".
func describeInput(n *node, rest string, c Change) string {
	_, detail, ok := strings.Cut(rest, " ")
	switch {
	case !ok:
		var i int
		if _, err := fmt.Sscan(rest, &i); err != nil || i >= len(n.step.Inputs) || n.step.Inputs[i].IsScratch() {
			return "input " + rest + " changed"
		}
		return "the result of " + inputName(n.step, i) + " changed"
	case detail == imagePart && c.Before != "" && c.After != "":
		return "base image moved from " + shortImage(c.Before, c.After) + " to " + shortImage(c.After, c.Before)
	}
	return detail + " " + verb(c)
}

// shortImage names an image beside another: by its digest alone if both have one name.
func shortImage(image, beside string) string {
	name, d, _ := strings.Cut(image, "@")
	if algorithm, hex, ok := strings.Cut(d, ":"); ok {
		d = algorithm + ":" + hex[:min(12, len(hex))]
	}
	if other, _, _ := strings.Cut(beside, "@"); other == name {
		return d
	}
	return name + "@" + d
}

// describeOwn is about what the instruction says. Values of variables are not told.
func describeOwn(step *dag.Step, c Change) []string {
	switch c.Name {
	case "args", "actions":
		return []string{"the instruction changed"}
	case "env":
		return describeEnv(step, c)
	case "salt", "revision":
		return []string{"made by another version of builder"}
	}
	return []string{c.Name + " " + verb(c)}
}

func describeEnv(step *dag.Step, c Change) []string {
	var before, after []string
	_ = json.Unmarshal([]byte(c.Before), &before) // a value that is no list is empty
	_ = json.Unmarshal([]byte(c.After), &after)
	was := map[string]string{}
	for _, kv := range before {
		k, v, _ := strings.Cut(kv, "=")
		was[k] = v
	}
	kind := func(name string) string {
		if slices.Contains(step.Meta.Args, name) {
			return "ARG " + name
		}
		return "ENV " + name
	}
	var out []string
	for _, kv := range after {
		k, v, _ := strings.Cut(kv, "=")
		old, ok := was[k]
		delete(was, k)
		switch {
		case !ok:
			out = append(out, kind(k)+" is new")
		case old != v:
			out = append(out, kind(k)+" changed")
		}
	}
	for _, kv := range before {
		k, _, _ := strings.Cut(kv, "=")
		if _, ok := was[k]; ok {
			delete(was, k)
			out = append(out, "variable "+k+" is gone")
		}
	}
	if len(out) == 0 {
		return []string{"the order of variables changed"}
	}
	return out
}

func verb(c Change) string {
	switch {
	case c.Before == "":
		return "is new"
	case c.After == "":
		return "is gone"
	}
	return "changed"
}
