package planner

import (
	"errors"
	"fmt"
	"path"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"layered.build/builder/planner/dag"
)

// mounts lowers RUN --mount.
func (in *instruction) mounts(cmd *instructions.RunCommand, exec *dag.Exec, ins *inputs) error {
	agents := 0
	for i, m := range instructions.GetMounts(cmd) {
		var err error
		switch m.Type {
		case instructions.MountTypeSecret:
			err = in.secret(m, exec)
		case instructions.MountTypeSSH:
			err = in.ssh(m, exec, agents)
			agents++
		default:
			err = in.files(m, in.cmd.sources[i], exec, ins)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// files lowers bind, cache and tmpfs mounts.
func (in *instruction) files(m *instructions.Mount, src *source, exec *dag.Exec, ins *inputs) error {
	mount := dag.Mount{
		Type: dag.MountType(m.Type), Input: -1, Dest: in.mountDest(m.Target), ReadOnly: m.ReadOnly,
		UID: number(m.UID), GID: number(m.GID), Mode: number(m.Mode),
	}
	if mount.Dest == "/" {
		return fmt.Errorf("invalid mount target %q", m.Target)
	}
	if p := path.Join("/", m.Source); p != "/" {
		mount.Selector = p[1:]
	}
	switch m.Type {
	case instructions.MountTypeTmpfs:
		mount.Size, mount.Selector = m.SizeLimit, ""
	case instructions.MountTypeCache:
		mount.Sharing = string(m.CacheSharing)
		if mount.Sharing == "" {
			mount.Sharing = string(instructions.MountSharingShared)
		}
		if mount.ID = m.CacheID; mount.ID == "" {
			mount.ID = path.Clean(m.Target)
		}
		if ns := in.args[cacheNamespaceArg]; ns != "" {
			mount.ID = ns + "/" + mount.ID
		}
	}
	if m.Type == instructions.MountTypeBind || m.Type == instructions.MountTypeCache && src != nil {
		edge, name, err := in.input(src)
		if err != nil {
			return err
		}
		mount.Input = ins.add(edge, name, 1)
	}
	exec.Mounts = append(exec.Mounts, mount)
	return nil
}

// mountDest is the place of files: relative ones are below the working directory.
// (Those of secrets and agents are below "/", as in BuildKit.)
func (in *instruction) mountDest(target string) string {
	if path.IsAbs(target) {
		return path.Clean(target)
	}
	return path.Join(in.cwd(), target)
}

func (in *instruction) secret(m *instructions.Mount, exec *dag.Exec) error {
	id := m.CacheID
	if m.Source != "" {
		id = m.Source
	}
	if id == "" {
		if m.Target == "" {
			return errors.New("one of source, target required")
		}
		id = path.Base(m.Target)
	}
	dest := m.Target
	if m.Env != nil {
		name := *m.Env
		if name == "" {
			name = id
		}
		exec.SecretEnv = append(exec.SecretEnv, dag.SecretEnv{ID: id, Name: name, Required: m.Required})
		if dest == "" {
			return nil
		}
	}
	if dest == "" {
		dest = "/run/secrets/" + path.Base(id)
	}
	mount := ownedFile(m, 0o400)
	mount.Type, mount.ID, mount.Dest, mount.Required = dag.MountSecret, id, path.Join("/", dest), m.Required
	exec.Mounts = append(exec.Mounts, mount)
	return nil
}

// ssh mounts an agent's socket. The first is the one that programs find.
func (in *instruction) ssh(m *instructions.Mount, exec *dag.Exec, index int) error {
	if m.Source != "" {
		return errors.New("ssh does not support source")
	}
	mount := ownedFile(m, 0o600)
	mount.Type, mount.ID, mount.Required = dag.MountSSH, m.CacheID, m.Required
	if mount.ID == "" {
		mount.ID = "default"
	}
	mount.Dest = fmt.Sprintf("/run/buildkit/ssh_agent.%d", index)
	if m.Target != "" {
		mount.Dest = path.Join("/", m.Target)
	}
	exec.Mounts = append(exec.Mounts, mount)
	if _, set := in.st.env.Get("SSH_AUTH_SOCK"); !set && index == 0 {
		exec.Env = append(exec.Env, "SSH_AUTH_SOCK="+mount.Dest)
	}
	return nil
}

// ownedFile is a mount of one file with the owner and mode that m asks for.
func ownedFile(m *instructions.Mount, mode int) dag.Mount {
	zero := 0
	mount := dag.Mount{Input: -1, ReadOnly: m.ReadOnly, UID: &zero, GID: &zero, Mode: &mode}
	if m.UID != nil {
		mount.UID = number(m.UID)
	}
	if m.GID != nil {
		mount.GID = number(m.GID)
	}
	if m.Mode != nil {
		mount.Mode = number(m.Mode)
	}
	return mount
}

func number(v *uint64) *int {
	if v == nil {
		return nil
	}
	n := int(*v)
	return &n
}
