// Package sandbox says what it takes to run one process of a build: the
// specification, its outcome, and the interface that runc (and later other
// isolations) implement.
package sandbox

import (
	"context"
	"io"

	"layered.build/builder/executor"
	"layered.build/builder/planner/dag"
	"layered.build/builder/snapshot"
)

// Spec is one process and all that it may see.
type Spec struct {
	// ID is unique on the machine; cgroups and state are named after it.
	ID string
	// Root is mounted as the root file system. ReadOnlyRoot forbids writes.
	Root         snapshot.Mount
	ReadOnlyRoot bool

	Args     []string
	Env      []string
	Cwd      string
	User     User
	Hostname string
	// Mounts are made over Root in this order; the source is already resolved.
	Mounts  []Mount
	Hosts   []dag.HostAlias
	Ulimits []dag.Ulimit
	Network dag.Network
	// NetworkAllow are the only destinations of NetDefault (see dag.Exec); none
	// allows all. Denied, if set, is told once of every one that was refused; it is
	// called while the process runs, from other goroutines, and must not block.
	NetworkAllow []string
	Denied       func(executor.Contact)
	Security     dag.Security
	Limits       dag.Limits
	ShmSize      int64 // bytes; 0: 64 MiB
	// DNS replaces what this machine's resolv.conf says; nil keeps it.
	DNS *dag.DNS
	// CapAdd and CapDrop change the capabilities that a sandboxed process has
	// ("CAP_SYS_ADMIN", or "ALL").
	CapAdd, CapDrop []string
	// Devices are made in /dev and may be used, beside the usual ones.
	Devices []Device

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// TTY gives the process a terminal, connected to Stdin and Stdout.
	TTY bool
	// Resize delivers terminal sizes (columns, rows) while the process runs.
	Resize <-chan [2]uint16
}

// User is a resolved identity inside the container.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// Mount is one further mount. Exactly one of HostPath, Snapshot and Tmpfs is set.
type Mount struct {
	Dest string // absolute inside the root; symlinks in it are resolved in the root
	// HostPath is a file or directory of this machine, bind-mounted. With a Selector
	// it is a directory that other processes may be changing: what is mounted is the
	// path below it, in which symlinks are not followed.
	HostPath string
	// Snapshot is mounted; Selector is the path in it that appears at Dest.
	Snapshot snapshot.Mount
	Selector string
	Tmpfs    *Tmpfs
	ReadOnly bool
}

// Device is a device node.
type Device struct {
	Path         string // below /dev
	Block        bool   // else a character device
	Major, Minor int64
	Mode         uint32 // permissions
	UID, GID     uint32
	Access       string // of "rwm"
}

// Tmpfs is an empty file system in memory.
type Tmpfs struct {
	Size int64  // bytes; 0: the kernel's default
	Mode uint32 // 0: 01777
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code; 128+n if signal n ended the process.
	Code int
	// OOM says that the kernel killed a process of the container for memory.
	OOM        bool
	CPUNanos   int64
	PeakMemory int64 // bytes
	// Contacts are what the process talked to over NetDefault.
	Contacts []executor.Contact
}

// Sandbox runs processes. Run returns when the process and all that it started
// are gone and nothing of the container is left (mounts, cgroups, namespaces).
// When ctx ends, everything is killed and the error is context.Cause(ctx). A
// process that ran is never an error, whatever its exit code.
type Sandbox interface {
	Run(ctx context.Context, spec *Spec) (Exit, error)
}
