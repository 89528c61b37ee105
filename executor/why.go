package executor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
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

// describe says in a few words what changed.
func (r *run) describe(n *node, changes []Change) string {
	const most = 3
	words := describeAll(n.step, changes)
	if more := len(words) - most; more > 0 {
		words = append(words[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(words, ", ")
}

// describeAll says in words what changed. What the instruction itself says comes first,
// then what it reads; that an earlier step made something else follows from others, which
// tell why.
func describeAll(step *dag.Step, changes []Change) []string {
	var own, read, made []string
	for _, c := range changes {
		rest, isInput := strings.CutPrefix(c.Name, "input ")
		switch {
		case !isInput:
			own = append(own, describeOwn(step, c)...)
		case strings.Contains(rest, " "):
			read = append(read, describeInput(step, rest, c))
		default:
			made = append(made, describeInput(step, rest, c))
		}
	}
	return slices.Concat(own, read, made)
}

// describeInput is about "N" or "N PATH".
func describeInput(step *dag.Step, rest string, c Change) string {
	number, detail, ok := strings.Cut(rest, " ")
	name := "input " + number
	if i, err := strconv.Atoi(number); err == nil && i < len(step.Inputs) && !step.Inputs[i].IsScratch() {
		name = inputName(step, i)
	}
	switch {
	case !ok && strings.HasPrefix(name, "input "):
		return name + " changed"
	case !ok:
		return "the result of " + name + " changed"
	case detail != imagePart:
		return detail + " " + verb(c)
	case c.Before != "" && c.After != "":
		return "base image moved from " + shortImage(c.Before, c.After) + " to " + shortImage(c.After, c.Before)
	}
	return "it follows " + name + " now" // it was or is not the first on its base
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
