package executor

import (
	"slices"

	"layered.build/builder/cache"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// base returns the node whose layers the node's own result begins with: the root
// of a process, what a File changes, the lowest stack of a Merge. It is nil for
// others and for scratch.
func (n *node) base() *node {
	switch op := n.step.Op.(type) {
	case *dag.Exec:
		for _, m := range op.Mounts {
			if m.Dest == "/" && m.Input >= 0 && m.Input < len(n.inputs) {
				return n.inputs[m.Input]
			}
		}
	case *dag.File:
		if op.Base && len(n.inputs) > 0 {
			return n.inputs[0]
		}
	case *dag.Merge:
		if len(n.inputs) > 0 {
			return n.inputs[0]
		}
	}
	return nil
}

// fit turns a record into a result that stands on the layers of the node's base.
// The record may name others with the same content (equal layers are only equal
// without their times), and the base's own record may have been replaced: then its
// upper layers are put on the base as it is. A record whose lower layers have
// another content is none for this base.
func (n *node) fit(rec *cache.Record) (Result, bool) {
	if rec == nil {
		return Result{}, false
	}
	stack := rec.Outputs[0]
	below, ok := n.lower()
	if !ok {
		return Result{Stack: stack}, true
	}
	if len(stack) < len(below) {
		return Result{}, false
	}
	same := func(a, b snapshot.Layer) bool { return a.ID == b.ID }
	if slices.EqualFunc(stack[:len(below)], below, same) {
		return Result{Stack: stack}, true
	}
	if stack[:len(below)].Content() != below.Content() {
		return Result{}, false
	}
	return Result{Stack: append(slices.Clone(below), stack[len(below):]...)}, true
}

// lower returns the layers of the node's base, as far as they are known.
func (n *node) lower() (snapshot.Stack, bool) {
	b := n.base()
	switch {
	case b == nil:
		return nil, false
	case b.known():
		return b.result.Stack, true
	}
	if b.record != nil {
		return b.cached.Stack, true
	}
	return b.lower()
}

// fitAll checks the records that were found against each other, bases first.
func (r *run) fitAll() {
	for _, n := range r.nodes {
		b := n.base()
		n.misfit = b != nil && b.misfit
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
		b := n.base()
		if b == nil || b.known() || !n.known() {
			continue
		}
		if own := n.ownLayers(); own >= 0 && own <= len(n.result.Stack) {
			r.settle(b, Result{Stack: n.result.Stack[:len(n.result.Stack)-own]})
		}
	}
}

// ownLayers is how many layers the node added to its base, -1 if that is not
// known.
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
