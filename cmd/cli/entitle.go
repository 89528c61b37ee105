package cli

import (
	"errors"
	"io"
	"os"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// checkAllowed refuses what a step may only do with --allow, before anything runs.
func (j *job) checkAllowed() error {
	if err := j.findDevices(); err != nil {
		return err
	}
	grants := j.flags.grants()
	for _, s := range j.plan.Graph.Steps {
		op, ok := s.Op.(*dag.Exec)
		if !ok {
			continue
		}
		if need, lacks := grants.Lacks(op, j.registered); lacks {
			e := j.mistake(s, "entitlement "+string(need)+" is not allowed", "grant it with --allow "+string(need))
			e.Err, e.Part = executor.ErrNotAllowed, askedBy[need]
			return e
		}
		if len(op.NetworkAllow) > 0 && op.Network != dag.NetDefault {
			return j.mistake(s, "--network-allow cannot limit the network "+string(op.Network), "it limits the default network, a step's own")
		}
	}
	return nil
}

// askedBy is how a Dockerfile asks for an entitlement.
var askedBy = map[dag.Permission]string{
	dag.PermissionNetworkHost: "--network=host", dag.PermissionInsecure: "--security=insecure", dag.PermissionDevice: "--device",
}

// mistake is an error at a step.
func (j *job) mistake(s *dag.Step, msg, hint string) *parser.Error {
	e := &parser.Error{File: j.file.Name, Source: j.file.Source, Msg: msg, Hint: hint}
	if len(s.Meta.Locations) > 0 {
		e.Start, e.End = s.Meta.Locations[0].Start, s.Meta.Locations[0].End
	}
	return e
}

// registered reports whether this machine has a device of a name.
func (j *job) registered(device string) bool { return len(j.devices.Find(device)) > 0 }

// findDevices reads what devices this machine has, if a step asks for one.
func (j *job) findDevices() (err error) {
	for _, s := range j.plan.Graph.Steps {
		if op, ok := s.Op.(*dag.Exec); ok && len(op.Devices) > 0 {
			j.devices, err = cdi.Load(cdi.Dirs()...)
			return err
		}
	}
	return nil
}

// readIgnoreFile reads --ignorefile instead of the context's own.
func (j *job) readIgnoreFile() error {
	name := j.flags.lang.ignoreFile
	if name == "" {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return mistake.New("--ignorefile: %w", err)
	}
	src, err := io.ReadAll(io.LimitReader(f, maxDockerfile+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return mistake.New("--ignorefile: %w", err)
	}
	if len(src) > maxDockerfile {
		return mistake.New("--ignorefile %s is larger than %d bytes", name, maxDockerfile)
	}
	j.context.ignore, err = parser.ParseIgnore(name, src)
	return err
}
