package cli

import (
	"errors"
	"io"
	"os"
	"slices"

	"layered.build/builder/executor"
	"layered.build/builder/executor/cdi"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner/dag"
)

// permissions are what --allow can grant.
func permissions() []string {
	return []string{"network.host", "network.ns", "security.insecure", "security.capabilities", "security.seccomp", "security.apparmor", "security.paths", "host.volume", "device", "secret.leak"}
}

// needs says which permissions a process needs.
func (j *job) needs(op *dag.Exec) []string {
	_, joins := op.Network.Namespace()
	confine := op.Confine
	if confine == nil {
		confine = &dag.Confinement{}
	}
	var out []string
	for _, n := range []struct {
		permission string
		needed     bool
	}{
		{"security.insecure", op.Security == dag.SecurityInsecure},
		{"network.host", op.Network == dag.NetHost},
		{"network.ns", joins},
		{"security.capabilities", len(op.CapAdd) > 0},
		{"security.seccomp", confine.Seccomp != ""},
		{"security.apparmor", confine.AppArmor != ""},
		{"security.paths", len(confine.Unmask) > 0},
		{"host.volume", len(op.Volumes) > 0},
		{"device", len(op.HostDevices) > 0 || slices.ContainsFunc(op.Devices, j.counts)},
	} {
		if n.needed {
			out = append(out, n.permission)
		}
	}
	return out
}

// checkAllowed refuses what a step may only do with --allow, before anything runs.
func (j *job) checkAllowed() error {
	if err := j.findDevices(); err != nil {
		return err
	}
	for _, s := range j.plan.Graph.Steps {
		op, ok := s.Op.(*dag.Exec)
		if !ok {
			continue
		}
		for _, need := range j.needs(op) {
			if j.flags.allowed(need) {
				continue
			}
			e := j.mistake(s, "entitlement "+need+" is not allowed", "grant it with --allow "+need)
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
var askedBy = map[string]string{
	"network.host": "--network=host", "security.insecure": "--security=insecure", "device": "--device",
}

// mistake is an error at a step.
func (j *job) mistake(s *dag.Step, msg, hint string) *parser.Error {
	e := &parser.Error{File: j.file.Name, Source: j.file.Source, Msg: msg, Hint: hint}
	if len(s.Meta.Locations) > 0 {
		e.Start, e.End = s.Meta.Locations[0].Start, s.Meta.Locations[0].End
	}
	return e
}

// counts reports whether a device is there, or required: another one is ignored.
func (j *job) counts(d dag.Device) bool { return d.Required || len(j.devices.Find(d.Name)) > 0 }

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
