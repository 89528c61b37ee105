package disk

import (
	"context"
	"fmt"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// Check implements gc.Checker.
func (k keeper) Check(ctx context.Context, x *gc.Check) error {
	return k.c.List(ctx, func(e Entry) error {
		x.Records++
		err := e.Err
		if err == nil {
			err = checkStacks(x, e.Record.Outputs)
		}
		if err != nil {
			x.Problem("record "+string(e.Key), err, func(*snapshot.Collection) error { return k.c.Remove(e.Key) })
		}
		return nil
	})
}

// checkStacks finds a bad layer in what a record names. One that is not here is not bad:
// it is fetched, or the record is a miss.
func checkStacks(x *gc.Check, stacks []snapshot.Stack) error {
	for _, stack := range stacks {
		for _, l := range stack {
			if x.BadLayer(l.ID) {
				return fmt.Errorf("needs the damaged layer %s", l.ID)
			}
		}
	}
	return nil
}

var _ gc.Checker = keeper{}
