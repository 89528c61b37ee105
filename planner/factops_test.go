package planner

import (
	"fmt"
	"slices"
	"strings"

	"layered.build/builder/planner/dag"
)

// opLines writes each operation of a graph as the oracle writes BuildKit's.
func opLines(g *dag.Graph) []string {
	var lines []string
	for _, s := range g.Steps {
		switch op := s.Op.(type) {
		case *dag.Exec:
			lines = append(lines, execLine(op))
		case *dag.File:
			for _, a := range op.Actions {
				lines = append(lines, actionLines(a)...)
			}
		case *dag.Merge:
			lines = append(lines, fmt.Sprintf("merge of %d\n", len(s.Inputs)))
		}
	}
	return lines
}

func execLine(e *dag.Exec) string {
	var mounts, secrets []string
	for _, m := range e.Mounts {
		if m.Dest != "/" {
			mounts = append(mounts, mountLine(m))
		}
	}
	slices.Sort(mounts)
	for _, s := range e.SecretEnv {
		secrets = append(secrets, fmt.Sprintf("%s=%s required=%v", s.Name, s.ID, s.Required))
	}
	net := map[dag.Network]string{dag.NetDefault: "UNSET", dag.NetNone: "NONE", dag.NetHost: "HOST"}[e.Network]
	return fmt.Sprintf("exec %q env=%q cwd=%q user=%q net=%s secrets=%q mounts=%q\n",
		e.Args, e.Env, e.Cwd, e.User, net, secrets, mounts)
}

func mountLine(m dag.Mount) string {
	s := strings.ToUpper(string(m.Type)) + " " + m.Dest
	switch m.Type {
	case dag.MountSecret, dag.MountSSH:
		return fmt.Sprintf("%s id=%s %d:%d %04o required=%v", s, m.ID, *m.UID, *m.GID, *m.Mode, m.Required)
	case dag.MountTmpfs:
		return fmt.Sprintf("%s size=%d", s, m.Size)
	case dag.MountCache:
		s += fmt.Sprintf(" id=%s sharing=%s", m.ID, strings.ToUpper(m.Sharing))
	}
	selector := m.Selector
	switch {
	case selector != "":
		selector = "/" + selector
	case m.UID != nil || m.GID != nil || m.Mode != nil:
		selector = "/cache" // BuildKit makes a directory with this owner and mode
	}
	return fmt.Sprintf("%s ro=%v selector=%q", s, m.ReadOnly, selector)
}

func actionLines(a dag.Action) []string {
	switch {
	case a.Copy != nil:
		return copyLines(a.Copy)
	case a.Mkdir != nil:
		return []string{fmt.Sprintf("mkdir %q mode=%04o parents=%v owner=%s\n", a.Mkdir.Path, a.Mkdir.Mode, a.Mkdir.MakeParents, ownerText(a.Mkdir.Owner))}
	case a.Mkfile != nil:
		return []string{fmt.Sprintf("mkfile %q mode=%04o owner=%s %q\n", a.Mkfile.Path[1:], a.Mkfile.Mode, ownerText(a.Mkfile.Owner), a.Mkfile.Data)}
	}
	return []string{fmt.Sprintf("other %+v\n", a)}
}

func copyLines(c *dag.Copy) []string {
	var lines []string
	for _, src := range c.Sources {
		var include []string
		if c.Parents {
			parent, pattern, ok := strings.Cut(src, "/./")
			if !ok {
				parent, pattern = "", src
			}
			src, include = parent, []string{pattern}
		}
		if src == "." {
			src = ""
		}
		lines = append(lines, fmt.Sprintf("copy %q -> %q owner=%s mode=%s unpack=%v follow=%v include=%q exclude=%q\n",
			src, c.Dest, ownerText(c.Owner), c.Mode, c.Unpack, c.FollowLinks, include, c.Excludes))
	}
	return lines
}

func ownerText(o *dag.Owner) string {
	if o == nil {
		return ""
	}
	return o.User + ":" + o.Group
}
