package engine

import (
	"context"
	"fmt"

	units "github.com/docker/go-units"

	"layered.build/builder/cmd/collect"
	"layered.build/builder/executor/local"
	"layered.build/builder/executor/source"
	"layered.build/builder/snapshot/gc"
)

// Collector is what measures, prunes and checks the store. Whatever a store keeps has its
// keeper here; of what has none only the size is known.
func (e *Engine) Collector() *collect.Store {
	return &collect.Store{Layers: e.Store, Keepers: []gc.Keeper{
		gc.Layers(e.Store), // checked first
		e.Cache.Keeper(),
		e.Runs().Keeper(),
		e.Images.Keeper(),
		local.Keeper(e.Store),
		source.Keeper(e.Root()),
		e.Builds().Keeper(),
	}}
}

// Collect keeps the store within its budget. A failure is told and does not stop the work.
// What this process uses stays.
func (e *Engine) Collect(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	b, err := e.host.budget()
	var p *collect.Pruned
	if err == nil && b.On {
		p, err = e.Collector().Auto(ctx, b.Budget)
	}
	left := int64(0)
	switch {
	case p != nil:
		left = p.Left
	case b.On && e.Store.Written() > 0:
		left = e.Store.Account().Used
	}
	if b.Exceeds(left) {
		e.host.opts.Warn(OverBudget(left, b.MaxUsed))
	}
	if err != nil && ctx.Err() == nil {
		e.host.opts.Warn(fmt.Sprintf("keep the store within its budget: %v", err))
	}
}

// OverBudget tells that a store is larger than it may be, and why.
func OverBudget(left, allowed int64) string {
	return fmt.Sprintf("the store has %s, more than max-used-space (%s) allows: what images with names, kept runs and running builds need stays (see builder du; builder rmi and builder rm remove some)",
		units.HumanSizeWithPrecision(float64(left), 4), units.HumanSizeWithPrecision(float64(allowed), 4))
}
