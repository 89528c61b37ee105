// Package sandbox says what it takes to run one process of a build: the
// specification, its outcome, and the interface that runc (and later other
// isolations) implement.
package sandbox

import (
	"context"
	"io"
	"syscall"

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
	// Mounts are made over Root as Arrange has them; the source is already resolved. One
	// that is where every container has something (/dev/shm, /etc/hosts) takes its place.
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
	// Confine changes how a sandboxed process is confined; nil changes nothing.
	// SeccompProfile is the profile that it names.
	Confine        *dag.Confinement
	SeccompProfile []byte
	// Devices are made in /dev and may be used, beside the usual ones.
	Devices []Device

	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Complaint begins the line of Stderr that says why the process was not started.
	Complaint string
	// TTY gives the process a terminal, connected to Stdin and Stdout.
	TTY bool
	// Resize delivers terminal sizes (columns, rows) while the process runs.
	Resize <-chan [2]uint16
	// Signals are handed on to the process while it runs; nil: none. One that ends
	// programs (HUP, INT, QUIT, TERM) ends a process that does nothing about it, also
	// if it is the first of its namespace, whom the kernel would spare.
	Signals <-chan syscall.Signal
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

// Kind tells block devices ("b") from character devices ("c").
func (d Device) Kind() string {
	if d.Block {
		return "b"
	}
	return "c"
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
	// OOM says that a process of the container was killed for memory.
	OOM bool
	// Victims are those processes in the order in which they were killed: which of them
	// made the first one fail is not known. One without a name stands for all where
	// nothing is known of them.
	Victims []Victim
	// PidsHit is how often no process could be started for the limit.
	PidsHit int64
	Usage
	// Contacts are what the process talked to over NetDefault.
	Contacts []executor.Contact
}

// Victim is a process that was killed because a memory limit was reached.
type Victim struct {
	Name string // its short name
	PID  int    // inside the container; 0 if unknown
	// Limit is the limit in bytes, 0 if unknown.
	Limit int64
}

// Usage is what the processes of a container used together.
type Usage struct {
	// CPUNanos is the time on CPUs, of which SystemNanos in the kernel.
	CPUNanos, SystemNanos int64
	// PeakMemory is the most memory at any time, in bytes. Where the container has
	// no memory cgroup, it is the most that was seen from time to time.
	PeakMemory int64
	// ReadBytes and WriteBytes went from and to storage. What came from the page
	// cache does not count; what is written counts when it is.
	ReadBytes, WriteBytes int64
	// Network is nil if the container had the machine's network.
	Network *NetworkUsage
	// Processes is how many were seen at once, at least 1.
	Processes int
}

// NetworkUsage is what went through the container's network interface.
type NetworkUsage struct{ RxBytes, TxBytes int64 }

// Sandbox runs processes. Run returns when the process and all that it started
// are gone and nothing of the container is left (mounts, cgroups, namespaces).
// When ctx ends, everything is killed and the error is context.Cause(ctx). A
// process that ran is never an error, whatever its exit code.
type Sandbox interface {
	Run(ctx context.Context, spec *Spec) (Exit, error)
}
