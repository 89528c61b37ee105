package cli

import (
	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"

	"layered.build/builder/executor"
)

// checkAllowed refuses what a step may only do with --allow, before anything runs.
func (j *job) checkAllowed() error {
	for _, s := range j.plan.Graph.Steps {
		op, ok := s.Op.(*dag.Exec)
		if !ok {
			continue
		}
		need := ""
		switch {
		case op.Security == dag.SecurityInsecure && !j.flags.allowed("security.insecure"):
			need = "security.insecure"
		case op.Network == dag.NetHost && !j.flags.allowed("network.host"):
			need = "network.host"
		default:
			continue
		}
		e := &parser.Error{
			File: j.file.Name, Source: j.file.Source, Msg: "entitlement " + need + " is not allowed",
			Hint: "grant it with --allow " + need, Err: executor.ErrNotAllowed,
		}
		if len(s.Meta.Locations) > 0 {
			e.Start, e.End = s.Meta.Locations[0].Start, s.Meta.Locations[0].End
		}
		return e
	}
	return nil
}
