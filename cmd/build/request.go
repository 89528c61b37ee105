package build

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/executor"
	"layered.build/builder/parser"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/engines"
)

// Request is what is asked for, parsed and checked. The zero value builds the last stage
// and keeps nothing.
type Request struct {
	// Plan says how the Dockerfile is planned. What Inputs define is filled in.
	Plan planner.Options
	// AllTargets makes the results of all stages.
	AllTargets bool
	// Exporters are where the image goes, Names what all of them call it.
	Exporters []export.Exporter
	Names     []string
	// Grants are what steps may do.
	Grants dag.Grants
	// SeccompProfiles are those that Plan names, by digest.
	SeccompProfiles map[digest.Digest][]byte
	// Pull says when registries are asked for base images.
	Pull Pull
	// Jobs bounds how many processes of this build run at once; 0: only the host does.
	Jobs int
	// Verify runs steps although they are cached, and warns of other results.
	Verify bool
	// SecretScan says what happens if a step leaves secrets; by default the Dockerfile does.
	SecretScan dag.SecretScan
	// MountKey are files of the context: the contents of cache mounts that shared caches carry
	// belong to what they hold. None: the Dockerfile's, if it names any.
	MountKey []string
	// Squash makes one layer of all that the build adds to its base.
	Squash bool
	// MultiPlatform writes the files of one platform as those of several are written.
	MultiPlatform bool
	// Total limits all processes of the build together, Timeout the time that it takes.
	Total   dag.Limits
	Timeout time.Duration
	// Describe makes the manifest or index of the image known even if no exporter writes
	// one.
	Describe bool
}

// Pull says when registries are asked for images that the store may have.
type Pull string

// The values of Pull.
const (
	PullAlways  Pull = "always"
	PullMissing Pull = "missing" // the default
	PullNever   Pull = "never"
	PullNewer   Pull = "newer" // always, but what the store has will do if no registry answers
)

// Definition is what is to be built.
type Definition struct {
	// Name is what messages call the Dockerfile, Source is its content.
	Name   string
	Source []byte
	// Project tells what is built from other builds of this store, whose steps may have
	// the same names; it stays when files change.
	Project string
	// Ignore is the ignore file of the context; nil: it has none.
	Ignore *parser.Ignore
	// Whole: the context came as an archive or from a repository.
	Whole bool
	// Owners: the context's files have owners of their own.
	Owners bool
	// Contexts are the named ones, by planner.NamedContextKey.
	Contexts map[string]*planner.NamedContext
}

// Inputs are where a build gets everything from, and where files go. Definition is
// required; without the others what needs them fails.
type Inputs struct {
	// Definition loads what is to be built, and tells obs of what it takes. It is called
	// once, before anything else is used.
	Definition func(ctx context.Context, obs executor.Observer) (*Definition, error)
	Contexts   executor.ContextSource
	// Renew makes Contexts look at their files again, after snapshot.ErrChanged, and keep
	// what they read, so that it cannot change again. Nobody reads them meanwhile. nil:
	// their files do not change.
	Renew   func()
	Remote  executor.RemoteSource
	Secrets executor.Secrets
	// Sent returns the secrets that Remote has used; nil: none.
	Sent   func() map[string][]byte
	Agents executor.SSHAgents
	// Times says how old what is read is, for SOURCE_DATE_EPOCH.
	Times planner.SourceTimes
	// Sinks take what exporters write as files.
	Sinks export.Sinks
	// Caches are the shared ones.
	Caches Caches
	// Engines says where other engines are that exporters load images into.
	Engines engines.Settings
}
