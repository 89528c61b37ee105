package executor

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
)

// places is implemented by caches that have asked others too.
type places interface {
	// Places says which had no record, for people.
	Places() []string
}

// why says why a node runs whose inputs are done.
func (r *run) why(ctx context.Context, n *node) *Lookup {
	missed := r.whyMissed(ctx, n)
	if p, ok := r.opts.Cache.(places); ok {
		missed.Places = append(missed.Places, p.Places()...)
	}
	return missed
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

// describe says in words what changed. What the instruction itself says comes first,
// then what it reads; that an earlier step made something else follows from others, which
// tell why.
func describe(step *dag.Step, changes []Change) []string {
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
	case c.Before != "" && c.After != "" && !strings.Contains(c.Before, "@"):
		return "base image moved" // from one that only its maker knows
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
	if name, ok := strings.CutPrefix(c.Name, "env "); ok { // of another machine's record
		return []string{variableKind(step, name) + " " + verb(c)}
	}
	return []string{c.Name + " " + verb(c)}
}

// variableKind is "ARG NAME" or "ENV NAME".
func variableKind(step *dag.Step, name string) string {
	if slices.Contains(step.Meta.Args, name) {
		return "ARG " + name
	}
	return "ENV " + name
}

// describeEnv names the variables that changed.
func describeEnv(step *dag.Step, c Change) []string {
	var out []string
	for _, v := range envChanges(step, c) {
		out = append(out, v.Name+" "+verb(v))
	}
	if len(out) == 0 {
		return []string{"the order of variables changed"}
	}
	return out
}

// envChanges are those of single variables. Their values are not told.
func envChanges(step *dag.Step, c Change) []Change {
	const (
		was = "(was set)"
		is  = "(is set)"
	)
	var before, after []string
	_ = json.Unmarshal([]byte(c.Before), &before) // a value that is no list is empty
	_ = json.Unmarshal([]byte(c.After), &after)
	old := map[string]string{}
	for _, kv := range before {
		k, v, _ := strings.Cut(kv, "=")
		old[k] = v
	}
	kind := func(name string) string { return variableKind(step, name) }
	var out []Change
	for _, kv := range after {
		k, v, _ := strings.Cut(kv, "=")
		had, ok := old[k]
		delete(old, k)
		switch {
		case !ok:
			out = append(out, Change{Name: kind(k), After: is})
		case had != v:
			out = append(out, Change{kind(k), was, is})
		}
	}
	for _, kv := range before {
		k, _, _ := strings.Cut(kv, "=")
		if _, ok := old[k]; ok {
			delete(old, k)
			out = append(out, Change{Name: "variable " + k, Before: was})
		}
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
