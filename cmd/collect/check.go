package collect

import (
	"context"
	"errors"
	"fmt"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

// CheckOptions say how a store is checked.
type CheckOptions struct {
	// Quick leaves out what reads all content: layers' tars.
	Quick bool
	// Repair removes what is wrong, so that it is as if it had never been made.
	Repair bool
	// Report is told of every problem as it is found.
	Report func(gc.Problem)
}

// Check verifies a store: every layer, blob, record, and what images refer to.
func (s *Store) Check(ctx context.Context, o CheckOptions) (gc.Checked, error) {
	var fixes []gc.Problem
	x := &gc.Check{Quick: o.Quick, Repairs: o.Repair, Report: func(p gc.Problem) {
		fixes = append(fixes, p)
		o.Report(p)
	}}
	for _, k := range s.Keepers {
		if c, ok := k.(gc.Checker); ok {
			if err := c.Check(ctx, x); err != nil {
				return x.Checked, fmt.Errorf("check store: %w", err)
			}
		}
	}
	if !o.Repair || len(fixes) == 0 {
		return x.Checked, nil
	}
	err := s.Layers.Collect(ctx, func(col *snapshot.Collection) error {
		var errs []error
		for _, p := range fixes {
			errs = append(errs, p.Repair(col))
		}
		return errors.Join(errs...)
	})
	return x.Checked, err
}
