package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// operations writes each operation of an LLB definition as one line, as the test
// writes those of a plan.
func operations(def [][]byte) (map[string]bool, error) {
	lines := map[string]bool{}
	for _, dt := range def {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			return nil, err
		}
		switch {
		case op.GetExec() != nil:
			lines[exec(op.GetExec())] = true
		case op.GetFile() != nil:
			for _, a := range op.GetFile().Actions {
				if m := a.GetMkdir(); m != nil && m.Path == "/cache" && !m.MakeParents {
					continue // holds the owner and mode of a cache mount
				}
				lines[action(a)] = true
			}
		case op.GetMerge() != nil:
			lines[fmt.Sprintf("merge of %d\n", len(op.GetMerge().Inputs))] = true
		}
	}
	return lines, nil
}

func exec(e *pb.ExecOp) string {
	var mounts []string
	for _, m := range e.Mounts {
		if m.Dest != "/" {
			mounts = append(mounts, mount(m))
		}
	}
	slices.Sort(mounts)
	var secrets []string
	for _, s := range e.Secretenv {
		secrets = append(secrets, fmt.Sprintf("%s=%s required=%v", s.Name, s.ID, !s.Optional))
	}
	return fmt.Sprintf("exec %q env=%q cwd=%q user=%q net=%s secrets=%q mounts=%q\n",
		e.Meta.Args, e.Meta.Env, e.Meta.Cwd, e.Meta.User, e.Network, secrets, mounts)
}

func mount(m *pb.Mount) string {
	s := fmt.Sprintf("%s %s", m.MountType, path.Join("/", m.Dest))
	file := func(id string, uid, gid, mode uint32, optional bool) string {
		return fmt.Sprintf("%s id=%s %d:%d %04o required=%v", s, id, uid, gid, mode, !optional)
	}
	switch m.MountType {
	case pb.MountType_SECRET:
		o := m.SecretOpt
		return file(o.ID, o.Uid, o.Gid, o.Mode, o.Optional)
	case pb.MountType_SSH:
		o := m.SSHOpt
		id := o.ID
		if id == "" {
			id = "default" // what the client makes of it
		}
		return file(id, o.Uid, o.Gid, o.Mode, o.Optional)
	case pb.MountType_TMPFS:
		return fmt.Sprintf("%s size=%d", s, m.TmpfsOpt.GetSize())
	case pb.MountType_CACHE:
		s += fmt.Sprintf(" id=%s sharing=%s", strings.TrimPrefix(m.CacheOpt.ID, "/"), m.CacheOpt.Sharing)
	}
	return fmt.Sprintf("%s ro=%v selector=%q", s, m.Readonly, strings.TrimSuffix(m.Selector, "/"))
}

func action(a *pb.FileAction) string {
	switch {
	case a.GetCopy() != nil:
		c := a.GetCopy()
		mode := c.ModeStr
		if c.Mode >= 0 && mode == "" {
			mode = fmt.Sprintf("%04o", c.Mode)
		}
		return fmt.Sprintf("copy %q -> %q owner=%s mode=%s unpack=%v follow=%v include=%q exclude=%q\n",
			strings.TrimPrefix(c.Src, "/"), strings.TrimSuffix(c.Dest, "."), owner(c.Owner), mode,
			c.AttemptUnpackDockerCompatibility, c.FollowSymlink, c.IncludePatterns, c.ExcludePatterns)
	case a.GetMkdir() != nil:
		m := a.GetMkdir()
		return fmt.Sprintf("mkdir %q mode=%04o parents=%v owner=%s\n", m.Path, m.Mode, m.MakeParents, owner(m.Owner))
	case a.GetMkfile() != nil:
		m := a.GetMkfile()
		return fmt.Sprintf("mkfile %q mode=%04o owner=%s %q\n", strings.TrimPrefix(m.Path, "/"), m.Mode, owner(m.Owner), m.Data)
	}
	return fmt.Sprintf("other %v\n", a)
}

func owner(o *pb.ChownOpt) string {
	if o == nil {
		return ""
	}
	return user(o.User) + ":" + user(o.Group)
}

func user(u *pb.UserOpt) string {
	switch {
	case u == nil:
		return ""
	case u.GetByName() != nil:
		return u.GetByName().Name
	}
	return fmt.Sprint(u.GetByID())
}
