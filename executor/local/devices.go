package local

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"layered.build/builder/executor/cdi"
	"layered.build/builder/executor/sandbox"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot/files"
	fileowner "layered.build/builder/snapshot/owner"
)

// addDevices gives a process the devices that it asks for.
func (w *Worker) addDevices(op *dag.Exec, spec *sandbox.Spec) error {
	for _, d := range op.HostDevices {
		n, err := node(d.Source, d.Dest, d.Access)
		if err != nil {
			return err
		}
		spec.Devices = append(spec.Devices, n)
	}
	var done []string
	for _, d := range op.Devices {
		var found []cdi.Device
		if w.machine.Devices != nil {
			found = w.machine.Devices.Find(d.Name)
		}
		if len(found) == 0 && d.Required {
			return fmt.Errorf("required device %q is not registered (in %s)", d.Name, strings.Join(cdi.Dirs(), ", "))
		}
		for _, f := range found {
			if slices.Contains(done, f.Name) {
				continue
			}
			done = append(done, f.Name)
			if err := editSpec(spec, f); err != nil {
				return fmt.Errorf("device %s: %w", f.Name, err)
			}
		}
	}
	return nil
}

// editSpec does what a device's specification asks for.
func editSpec(spec *sandbox.Spec, d cdi.Device) error {
	e := d.Edits
	switch {
	case len(e.Hooks) > 0:
		return fmt.Errorf("its specification has hooks, which are not supported")
	case e.IntelRDT != nil, len(e.NetDevices) > 0:
		return fmt.Errorf("its specification has intelRdt or netDevices, which are not supported")
	}
	spec.Env = append(spec.Env, e.Env...)
	spec.User.Groups = append(spec.User.Groups, e.AdditionalGIDs...)
	for _, dn := range e.DeviceNodes {
		src := dn.HostPath
		if src == "" {
			src = dn.Path
		}
		n, err := node(src, dn.Path, dn.Permissions)
		if err != nil {
			return err
		}
		if dn.FileMode != nil {
			n.Mode = *dn.FileMode & 0o7777
		}
		if dn.UID != nil {
			n.UID = *dn.UID
		}
		if dn.GID != nil {
			n.GID = *dn.GID
		}
		spec.Devices = append(spec.Devices, n)
	}
	for _, m := range e.Mounts {
		if m.Type != "" && m.Type != "bind" {
			return fmt.Errorf("mounts of type %s are not supported", m.Type)
		}
		spec.Mounts = append(spec.Mounts, sandbox.Mount{
			Dest: m.ContainerPath, HostPath: m.HostPath, ReadOnly: slices.Contains(m.Options, "ro"),
		})
	}
	return nil
}

// node describes a device node of this machine.
func node(src, dest, access string) (sandbox.Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(src, &st); err != nil {
		return sandbox.Device{}, &os.PathError{Op: "find device", Path: src, Err: err}
	}
	d := sandbox.Device{
		Path: dest, Major: int64(unix.Major(uint64(st.Rdev))), Minor: int64(unix.Minor(uint64(st.Rdev))),
		Mode: st.Mode & 0o7777, UID: st.Uid, GID: st.Gid, Access: access,
	}
	if d.Access == "" {
		d.Access = "rwm"
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
	case unix.S_IFBLK:
		d.Block = true
	default:
		return d, fmt.Errorf("%s is not a device", src)
	}
	return d, nil
}

// volumes mounts folders of the host.
func (m *mounter) volumes(op *dag.Exec) ([]sandbox.Mount, error) {
	var out []sandbox.Mount
	for _, v := range op.Volumes {
		sm := sandbox.Mount{Dest: v.Dest, HostPath: v.Source, ReadOnly: v.ReadOnly}
		fi, err := os.Stat(v.Source)
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Dest, err)
		}
		if v.Overlay {
			if !fi.IsDir() {
				return nil, fmt.Errorf("volume %s: %s is not a folder, which O needs", v.Dest, v.Source)
			}
			if sm, err = m.discarded(v, fi); err != nil {
				return nil, fmt.Errorf("volume %s: %w", v.Dest, err)
			}
		}
		out = append(out, sm)
	}
	return out, nil
}

// discarded mounts a folder so that what is written to it is lost afterwards.
func (m *mounter) discarded(v dag.Volume, fi os.FileInfo) (sandbox.Mount, error) {
	s, err := files.NewScratch(m.w.folder(runFolder), "volume-")
	if err != nil {
		return sandbox.Mount{}, err
	}
	m.undo = append(m.undo, s.Remove)
	upper, work := s.Path("upper"), s.Path("work")
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return sandbox.Mount{}, err
		}
	}
	if st, ok := statOf(fi); ok {
		if err := fileowner.Lchown(upper, st.Uid, st.Gid); err != nil {
			return sandbox.Mount{}, err
		}
		if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
			return sandbox.Mount{}, err
		}
	}
	mnt := sandbox.Mount{Dest: v.Dest, ReadOnly: v.ReadOnly}
	mnt.Snapshot.Lower, mnt.Snapshot.Upper, mnt.Snapshot.Work = []string{v.Source}, upper, work
	return mnt, nil
}

func statOf(fi os.FileInfo) (*syscall.Stat_t, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return st, ok
}
