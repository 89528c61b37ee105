package planner

import (
	"context"
	"time"

	image "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/parser"
	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// ImageConfig is Docker's image configuration (a superset of OCI's: Healthcheck,
// OnBuild, Shell).
type ImageConfig = image.DockerOCIImage

// ImageResolver finds base images. It is the only thing outside that planning
// needs.
type ImageResolver interface {
	// ResolveImage returns the image that a reference means for a platform,
	// without fetching layers. Ref is as written in the Dockerfile.
	ResolveImage(ctx context.Context, ref string, platform ocispec.Platform) (*BaseImage, error)
}

// BaseImage is an image that a stage starts from or copies from.
type BaseImage struct {
	// Ref is the normalised reference (docker.io/library/alpine:3.20), Digest
	// the manifest of the chosen platform (or the config digest of an image that
	// exists in the local store only).
	Ref, Digest string
	// Layout is the path of the OCI image layout that has the image, "" for others. Ref
	// is a LayoutImage's text then.
	Layout   string
	Platform ocispec.Platform
	// Config is the decoded image configuration with its history and rootfs.
	Config ImageConfig
}

// source is the operation that brings the image.
func (b *BaseImage) source() *dag.Source {
	if b.Layout != "" {
		return &dag.Source{OCILayout: &dag.OCILayoutSource{Path: b.Layout, Digest: b.Digest}}
	}
	return &dag.Source{Image: &dag.ImageSource{Ref: b.Ref, Digest: b.Digest}}
}

// Options say what to plan. The zero value plans the last stage for this
// machine's platform.
type Options struct {
	Target        string
	BuildArgs     map[string]string
	Labels        map[string]string
	Platforms     []ocispec.Platform // empty: BuildPlatform
	BuildPlatform ocispec.Platform   // zero: this machine's
	// CanRun tells what keeps processes of a platform from running here, nil if
	// nothing does. Without it only what BuildPlatform's machine runs by itself can.
	CanRun        func(ocispec.Platform) error
	NoCache       bool
	NoCacheStages []string // stage names whose steps always run
	// MaxAge is how old a result may be that is used again; 0: as old as it is.
	MaxAge time.Duration
	// Excludes are the context's ignore patterns.
	Excludes []string
	// WholeContext says that the context was not read for this build: it came as an
	// archive or from a repository, and holds what it holds. Of a directory there is only
	// what some instruction names.
	WholeContext bool
	// ContextOwners keeps the owners of the context's files: it came as an archive.
	ContextOwners bool
	// Contexts take the place of stages and images, by NamedContextKey.
	Contexts map[string]*NamedContext
	// Layouts finds images in OCI image layouts, which only Contexts name.
	Layouts LayoutResolver
	// Hosts, ShmSize, Ulimits, Network and Limits apply to every RUN.
	Hosts   []dag.HostAlias
	ShmSize int64
	Ulimits []dag.Ulimit
	Network dag.Network
	Limits  dag.Limits
	// Hostname of every RUN ("" = the sandbox's default).
	Hostname string
	// Epoch is SOURCE_DATE_EPOCH, if known.
	Epoch *time.Time
	// Times resolves a SOURCE_DATE_EPOCH that names what is to be as old; without
	// it that means no epoch.
	Times SourceTimes
	// Run applies to every RUN, too.
	Run RunOptions
	// ArgScope says which RUN instructions an ARG reaches; "" is ArgScopeAll.
	ArgScope ArgScope
	// From, if set, replaces what the first FROM names.
	From string
	// Env are variables (name, value) that every stage begins with; ENV overrides
	// them. UnsetEnv and UnsetLabels are not in the result.
	Env                   [][2]string
	UnsetEnv, UnsetLabels []string
	// AllStages plans every stage, not only those that the target needs.
	AllStages bool
}

// Plan is what is to be done.
type Plan struct {
	// Graph holds the steps of all targets.
	Graph *dag.Graph
	// Targets are the images to make, one a platform.
	Targets []*Image
	// Stages are all stages that are built, targets included, in file order.
	Stages []*Image
	// Skipped are names of stages that the targets do not need.
	Skipped  []string
	Warnings []parser.Warning
	// UnusedArgs are build arguments that no ARG consumes.
	UnusedArgs []string
	// UnknownStages are those of NoCacheStages that are no stages.
	UnknownStages []string
	// Outline says what the target can be given from outside.
	Outline *Outline
	// Epoch is the SOURCE_DATE_EPOCH in force, nil if none.
	Epoch *time.Time
}

// Image is one stage as an image: its base, its instructions, its result.
type Image struct {
	Stage string // name, or "stage-N"
	Index int
	// Platform is what the stage's steps run on; for a target whose platform was
	// asked for, that one.
	Platform ocispec.Platform
	// Base is nil for scratch. For a stage built on another stage it is that
	// stage's base, and Instructions begin with that stage's.
	Base         *BaseImage
	Instructions []Instruction
	// Parent is the stage that this one is built on, nil for one that is built on Base.
	Parent *Image
	// Result is the root file system after the last instruction.
	Result dag.Edge
	// Config is the final configuration, without rootfs and history.
	Config ImageConfig
}

// Instruction is one line of history and what it left.
type Instruction struct {
	// CreatedBy is the text for the image's history, in BuildKit's style.
	CreatedBy string
	// Comment is the history comment.
	Comment string
	// Step is the step that makes the file system after this instruction; nil
	// for one that only changes the configuration.
	Step *dag.Step
	// EmptyLayer says that the instruction adds no layer. (WORKDIR on an existing
	// directory is only known to be empty after the step has run.)
	EmptyLayer bool
	// Unlisted says that it is no line of the history: the files that a stage starts from.
	Unlisted bool
	// Config is the configuration after this instruction.
	Config   *settings.Configuration
	Location dag.Location
}
