package engine

import (
	"context"
	"fmt"

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
	}}
}

// Collect keeps the store within its budget. A failure is told and does not stop the work.
// What this process uses stays.
func (e *Engine) Collect(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	b, err := e.host.budget()
	if err == nil && b.On {
		_, err = e.Collector().Auto(ctx, b.Budget)
	}
	if err != nil && ctx.Err() == nil {
		e.host.opts.Warn(fmt.Sprintf("keep the store within its budget: %v", err))
	}
}
