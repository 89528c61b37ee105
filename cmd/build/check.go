package build

import (
	"fmt"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// checkAllowed refuses what a step may only do with a permission, before anything runs.
// The worker checks it again, of whatever graph.
func (p *Plan) checkAllowed(grants dag.Grants) error {
	for _, s := range p.Graph.Steps {
		op, ok := s.Op.(*dag.Exec)
		if !ok {
			continue
		}
		if need, lacks := grants.Lacks(op, p.registered); lacks {
			denied := &executor.NotAllowedError{Permission: need}
			e := p.mistake(s, denied.Error(), "grant it with --allow "+string(need))
			e.Err, e.Part = denied, askedBy[need]
			return e
		}
		if len(op.NetworkAllow) > 0 && op.Network != dag.NetDefault {
			return p.mistake(s, "--network-allow cannot limit the network "+string(op.Network), "it limits the default network, a step's own")
		}
	}
	return nil
}

// askedBy is how a Dockerfile asks for a permission.
var askedBy = map[dag.Permission]string{
	dag.PermissionNetworkHost: "--network=host", dag.PermissionInsecure: "--security=insecure", dag.PermissionDevice: "--device",
}

// mistake is an error at a step.
func (p *Plan) mistake(s *dag.Step, msg, hint string) *parser.Error {
	e := &parser.Error{File: p.File.Name, Source: p.File.Source, Msg: msg, Hint: hint}
	if len(s.Meta.Locations) > 0 {
		e.Start, e.End = s.Meta.Locations[0].Start, s.Meta.Locations[0].End
	}
	return e
}

// unknownStages tells of stages that were to run, and are none of the Dockerfile's.
func (p *Plan) unknownStages() []string {
	var known, out []string
	for _, st := range p.File.Stages {
		known = append(known, st.Name)
	}
	for _, name := range p.UnknownStages {
		text := fmt.Sprintf("--no-cache=%s: the Dockerfile has no stage of this name", name)
		if near, ok := mistake.Nearest(name, known); ok {
			text += fmt.Sprintf(" (did you mean %s?)", near)
		}
		out = append(out, text)
	}
	return out
}

// registered reports whether this machine has a device of a name.
func (p *Plan) registered(device string) bool {
	return p.devices != nil && len(p.devices.Find(device)) > 0
}

// findDevices reads what devices this machine has, if a step asks for one.
func (p *Plan) findDevices() (*cdi.Registry, error) {
	for _, s := range p.Graph.Steps {
		if op, ok := s.Op.(*dag.Exec); ok && len(op.Devices) > 0 {
			return cdi.Load(cdi.Dirs()...)
		}
	}
	return nil, nil
}
