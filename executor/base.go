package executor

import (
	"slices"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// source is an output of a node; the zero source is scratch.
type source struct {
	node   *node
	output int
}

// stack is the file system of a source whose node is done.
func (s source) stack() snapshot.Stack { return s.node.results[s.output].Stack }

// base returns what the layers of one of the node's outputs begin with: the root of a
// process or what is mounted, what a File changes, the lowest stack of a Merge. It is the
// zero source for others and for scratch.
func (n *node) base(output int) source {
	input := -1
	switch op := n.step.Op.(type) {
	case *dag.Exec:
		if m := op.OutputMount(output); m != nil {
			input = m.Input
		}
	case *dag.File:
		if op.Base {
			input = 0
		}
	case *dag.Merge:
		input = 0
	}
	if input < 0 || input >= len(n.inputs) || n.inputs[input] == nil {
		return source{}
	}
	return source{n.inputs[input], n.step.Inputs[input].Output}
}

// fit turns a record into results that stand on the layers of the node's bases. The
// record may name others with the same content (equal layers are only equal without their
// times), and the base's own record may have been replaced: then its upper layers are put
// on the base as it is. A record whose lower layers have another content is none for this
// base.
func (n *node) fit(rec *cache.Record) ([]Result, bool) {
	if rec == nil {
		return nil, false
	}
	out := make([]Result, len(rec.Outputs))
	for i, stack := range rec.Outputs {
		var ok bool
		if out[i].Stack, ok = n.fitOutput(i, stack); !ok {
			return nil, false
		}
	}
	return out, true
}

func (n *node) fitOutput(output int, stack snapshot.Stack) (snapshot.Stack, bool) {
	below, ok := n.lower(output)
	if !ok {
		return stack, true
	}
	if len(stack) < len(below) {
		return nil, false
	}
	same := func(a, b snapshot.Layer) bool { return a.ID == b.ID }
	if slices.EqualFunc(stack[:len(below)], below, same) {
		return stack, true
	}
	if stack[:len(below)].Content() != below.Content() {
		return nil, false
	}
	return append(slices.Clone(below), stack[len(below):]...), true
}

// lower returns the layers of an output's base, as far as they are known.
func (n *node) lower(output int) (snapshot.Stack, bool) {
	b := n.base(output)
	switch {
	case b.node == nil:
		return nil, false
	case b.node.known():
		return b.stack(), true
	case b.node.record != nil:
		return b.node.cached[b.output].Stack, true
	}
	return b.node.lower(b.output)
}

// fitAll checks the records that were found against each other, bases first. What this
// build made counts as it is.
func (r *run) fitAll() {
	for _, n := range r.nodes {
		if n.again {
			continue
		}
		for i := range n.step.Outputs() {
			b := n.base(i).node
			n.misfit = n.misfit || b != nil && b.misfit
		}
		if n.record == nil {
			continue
		}
		if n.misfit { // made on what its base was before
			n.record = nil
			continue
		}
		var ok bool
		if n.cached, ok = n.fit(n.record); !ok {
			n.record, n.misfit = nil, true
		}
	}
}

// deriveAll finds the results of steps that nothing needed from what a cached
// later step has them as its lower layers.
func (r *run) deriveAll() {
	for _, n := range slices.Backward(r.nodes) {
		b := n.base(0).node
		if b == nil || b.known() || !n.known() || b.step.Outputs() > 1 {
			continue
		}
		stack := n.results[0].Stack
		if own := n.ownLayers(); own >= 0 && own <= len(stack) {
			r.settle(b, []Result{{Stack: stack[:len(stack)-own]}})
		}
	}
}

// ownLayers is how many layers the node added to the base of its first output, -1 if that
// is not known.
func (n *node) ownLayers() int {
	switch n.step.Op.(type) {
	case *dag.Exec, *dag.File:
		return 1
	case *dag.Merge:
		own := 0
		for _, in := range n.inputs[1:] {
			if in == nil {
				continue
			}
			f, ok := in.step.Op.(*dag.File)
			if !ok || f.Base {
				return -1
			}
			own++
		}
		return own
	}
	return -1
}
