package dag

import (
	"path"
	"strings"
)

// Op is an operation: *Source, *Exec, *File, *Merge or *Diff. The set is closed.
type Op interface {
	// Kind is a short lower-case word for the operation ("source", "exec", …).
	Kind() string
}

// Source brings files from outside into the graph. Exactly one field is set.
type Source struct {
	Image     *ImageSource     `json:",omitempty"`
	Local     *LocalSource     `json:",omitempty"`
	Git       *GitSource       `json:",omitempty"`
	HTTP      *HTTPSource      `json:",omitempty"`
	OCILayout *OCILayoutSource `json:",omitempty"`
}

// ImageSource is a container image. Its result is the image's layers.
type ImageSource struct {
	// Ref is the normalised reference: docker.io/library/alpine:3.20.
	Ref string
	// Digest pins the platform's manifest (or, for an image of the local store
	// that has none, its config). The planner has resolved it.
	Digest string
}

// LocalSource is a directory of the machine that builds. It has no key of its
// own: the steps that read it are keyed by the content of the paths they select.
type LocalSource struct {
	// Name is "context", "dockerfile", or the name of a named context.
	Name string
	// Excludes are ignore patterns (moby/patternmatcher), in order.
	Excludes []string `json:",omitempty"`
}

// GitSource is a commit of a git repository, checked out.
type GitSource struct {
	Remote     string
	Ref        string `json:",omitempty"`
	Subdir     string `json:",omitempty"`
	KeepGitDir bool   `json:",omitempty"`
	Submodules bool   `json:",omitempty"`
	Checksum   string `json:",omitempty"`
	// CommitTimes gives the files the time of the commit.
	CommitTimes bool `json:",omitempty"`
	// FetchByCommit takes the commit that Checksum names without comparing it
	// with Ref.
	FetchByCommit bool `json:",omitempty"`
}

// HTTPSource is one file that is downloaded.
type HTTPSource struct {
	URL      string
	Filename string `json:",omitempty"`
	Checksum string `json:",omitempty"`
	Mode     string `json:",omitempty"`
}

// OCILayoutSource is an image in an OCI image layout. Its result is the image's layers.
type OCILayoutSource struct {
	// Path is where the layout is.
	Path string
	// Digest is that of the platform's manifest. The planner has resolved it.
	Digest string
}

// Exec runs a process on its root file system, which is the input of the mount
// whose Dest is "/" (or scratch). Its output 0 is the root file system after it; mounts
// may be further ones.
type Exec struct {
	Args      []string
	Env       []string `json:",omitempty"` // "KEY=value", in order
	Cwd       string
	User      string      `json:",omitempty"` // user[:group], names or numbers
	Hostname  string      `json:",omitempty"`
	Hosts     []HostAlias `json:",omitempty"`
	Ulimits   []Ulimit    `json:",omitempty"`
	Mounts    []Mount     `json:",omitempty"`
	Network   Network     `json:",omitempty"`
	Security  Security    `json:",omitempty"`
	SecretEnv []SecretEnv `json:",omitempty"`
	Devices   []Device    `json:",omitempty"`
	ShmSize   int64       `json:",omitempty"` // bytes
	// The following are asked for on the command line.
	DNS *DNS `json:",omitempty"`
	// NetworkAllow are the only destinations that NetDefault reaches, HOST[:PORT],
	// sorted; none allows all.
	NetworkAllow []string     `json:",omitempty"`
	CapAdd       []string     `json:",omitempty"` // "CAP_SYS_ADMIN"
	Confine      *Confinement `json:",omitempty"`
	CapDrop      []string     `json:",omitempty"`
	// Volumes are no part of any content: a step that has some is not cached.
	Volumes     []Volume     `json:",omitempty"`
	HostDevices []HostDevice `json:",omitempty"`
}

// Confinement changes how a sandboxed process is confined.
type Confinement struct {
	// Seccomp is SeccompUnconfined, or the digest of a profile in Docker's form; ""
	// is the default one.
	Seccomp string `json:",omitempty"`
	// AppArmor is a loaded profile, or "unconfined"; "" is the default.
	AppArmor string `json:",omitempty"`
	// NoNewPrivileges: set-user-id programs and file capabilities give nothing.
	NoNewPrivileges bool `json:",omitempty"`
	// Mask are paths that are hidden beside the usual ones. Unmask are those of the
	// usual that are not hidden or read-only, or UnmaskAll.
	Mask, Unmask []string `json:",omitempty"`
}

// Special values of a Confinement.
const (
	SeccompUnconfined = "unconfined"
	UnmaskAll         = "ALL"
)

// DNS replaces what the host's resolv.conf says.
type DNS struct {
	Servers, Search, Options []string `json:",omitempty"`
}

// Volume is a file or folder of the host that a process sees at Dest. Overlay
// drops what is written to it.
type Volume struct {
	Source, Dest string
	ReadOnly     bool `json:",omitempty"`
	Overlay      bool `json:",omitempty"`
}

// HostDevice is a device node of the host that a process may use at Dest. Access
// is of "rwm".
type HostDevice struct {
	Source, Dest, Access string
}

// HostAlias is a line of /etc/hosts.
type HostAlias struct{ Host, IP string }

// Ulimit is a resource limit of processes (setrlimit(2)).
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Network says which network a process sees.
type Network string

// The networks.
const (
	NetDefault Network = ""     // a namespace of its own with outward connectivity
	NetNone    Network = "none" // loopback only
	NetHost    Network = "host" // the host's
)

// netNamespace begins the name of a network that is an existing namespace:
// "ns:/run/netns/x".
const netNamespace = "ns:"

// Namespace is the path of the namespace that is to be joined.
func (n Network) Namespace() (path string, ok bool) {
	return strings.CutPrefix(string(n), netNamespace)
}

// Valid reports whether there is such a network.
func (n Network) Valid() bool {
	if p, ok := n.Namespace(); ok {
		return path.IsAbs(p)
	}
	return n == NetDefault || n == NetNone || n == NetHost
}

// Security says how far a process is confined.
type Security string

// The security modes.
const (
	SecuritySandbox  Security = ""
	SecurityInsecure Security = "insecure"
)

// SecretEnv hands a secret to the process as an environment variable.
type SecretEnv struct {
	ID, Name string
	Required bool `json:",omitempty"`
}

// Device is a CDI device request.
type Device struct {
	Name     string
	Required bool `json:",omitempty"`
}

// MountType is the kind of a Mount.
type MountType string

// The mount types.
const (
	MountBind   MountType = "bind"
	MountCache  MountType = "cache"
	MountTmpfs  MountType = "tmpfs"
	MountSecret MountType = "secret"
	MountSSH    MountType = "ssh"
)

// Mount is a file system that an Exec sees at Dest.
type Mount struct {
	Type MountType
	// Input is the index into Step.Inputs, or -1.
	Input int
	// Selector is the path inside the input that is mounted ("" = all of it).
	Selector string `json:",omitempty"`
	Dest     string
	ReadOnly bool `json:",omitempty"`
	// Output, if not 0, makes an output of the step of what is written to a bind mount;
	// otherwise it is lost. (Output 0 is the root's.)
	Output int `json:",omitempty"`

	ID       string `json:",omitempty"` // cache, secret, ssh
	Sharing  string `json:",omitempty"` // cache: shared, private, locked
	Size     int64  `json:",omitempty"` // tmpfs, bytes
	UID      *int   `json:",omitempty"`
	GID      *int   `json:",omitempty"`
	Mode     *int   `json:",omitempty"`
	Required bool   `json:",omitempty"` // secret, ssh
}

// File changes files of Inputs[0] (or of scratch if Base is false) without
// running a process. Output 0 is the changed file system.
type File struct {
	// Base says that Inputs[0] is what is changed; otherwise all inputs are
	// sources and the result starts from nothing.
	Base    bool
	Actions []Action
}

// Action is one change: exactly one field is set.
type Action struct {
	Copy    *Copy    `json:",omitempty"`
	Mkfile  *Mkfile  `json:",omitempty"`
	Mkdir   *Mkdir   `json:",omitempty"`
	Rm      *Rm      `json:",omitempty"`
	Symlink *Symlink `json:",omitempty"`
}

// Owner is a user and a group, each a name or a number; names are looked up in
// the file system that is changed (Inputs[0]), never on the host. A nil *Owner
// means 0:0 for files of a context and "as at the source" for other inputs.
type Owner struct {
	User  string `json:",omitempty"`
	Group string `json:",omitempty"`
}

// Copy copies Sources of an input to Dest, as COPY and ADD do.
type Copy struct {
	Input int
	// Sources are clean slash paths from the input's root without a leading
	// slash ("." is the root itself). Where Wildcard is set, those that hold one
	// of *?[ are glob patterns (path/filepath.Match) and may match nothing; the
	// others must exist. Where Parents is set, a "/./" in a source is the pivot:
	// only the directories behind it are kept.
	Sources []string
	// Dest is an absolute slash path. A trailing slash means "into that directory".
	Dest     string
	Wildcard bool `json:",omitempty"`
	// Owner overrides the owner of all that is copied or created.
	Owner *Owner `json:",omitempty"`
	// KeepOwner keeps the source's owners when Owner is nil (COPY --from).
	KeepOwner bool `json:",omitempty"`
	// Mode is --chmod: octal ("0755") or symbolic ("u=rwX,go=rX"); "" keeps modes.
	Mode string `json:",omitempty"`
	// Unpack extracts sources that are local tar archives (ADD).
	Unpack bool `json:",omitempty"`
	// FollowLinks resolves a symlink named as a source itself.
	FollowLinks bool `json:",omitempty"`
	// Parents keeps the sources' directories (COPY --parents).
	Parents bool `json:",omitempty"`
	// Excludes are patterns relative to each source's root.
	Excludes []string `json:",omitempty"`
}

// Mkfile writes a regular file. Missing parents are not made.
type Mkfile struct {
	Path  string
	Mode  int
	Data  []byte
	Owner *Owner `json:",omitempty"`
}

// Mkdir makes a directory; one that exists is left as it is.
type Mkdir struct {
	Path        string
	Mode        int
	MakeParents bool   `json:",omitempty"`
	Owner       *Owner `json:",omitempty"`
}

// Rm removes a path and all below it.
type Rm struct {
	Path          string
	AllowNotFound bool `json:",omitempty"`
}

// Symlink makes a symbolic link at Path that holds Target.
type Symlink struct {
	Path, Target string
	Owner        *Owner `json:",omitempty"`
}

// Merge lays the layers of its inputs over each other, first input lowest
// (COPY --link).
type Merge struct{}

// Diff is what Inputs[1] has over Inputs[0].
type Diff struct{}

// Kind implements Op.
func (*Source) Kind() string { return "source" }

// Kind implements Op.
func (*Exec) Kind() string { return "exec" }

// Kind implements Op.
func (*File) Kind() string { return "file" }

// Kind implements Op.
func (*Merge) Kind() string { return "merge" }

// Kind implements Op.
func (*Diff) Kind() string { return "diff" }

var (
	_ Op = (*Source)(nil)
	_ Op = (*Exec)(nil)
	_ Op = (*File)(nil)
	_ Op = (*Merge)(nil)
	_ Op = (*Diff)(nil)
)
