package containers

import (
	"context"
	"errors"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cmd/containers/runs"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/registry"
)

// CommitOptions say what an image of a run is like.
type CommitOptions struct {
	Author, Message string
	// Changes are Dockerfile instructions that change the configuration.
	Changes []string
	// Names are those of the image; none leaves it without.
	Names []string
}

// Commit makes an image of what an ended run left.
func Commit(ctx context.Context, e *engine.Engine, rec *runs.Record, o CommitOptions) (*registry.Image, error) {
	config, err := ChangeConfig(ctx, rec.Config, o.Changes)
	if err != nil {
		return nil, err
	}
	if o.Author != "" {
		config.Author = o.Author
	}
	stack, err := e.Store.Name(ctx, nil, rec.Stack)
	if err != nil {
		return nil, err
	}
	img, err := Assemble(e, registry.AssembleInput{
		Base: &rec.Config, BaseStack: rec.Base, BaseV1: rec.V1, Stack: stack, Config: config,
		Steps: []registry.AssembleStep{{
			CreatedBy: strings.Join(rec.Command, " "), Comment: o.Message, Cmd: rec.Command,
			Stack: stack, Config: config,
		}},
	})
	if err != nil {
		return nil, err
	}
	return img, e.Images.Put(ctx, img, o.Names...)
}

// Assemble makes an image, and the V1 records of its steps. It is not among the store's
// images yet.
func Assemble(e *engine.Engine, in registry.AssembleInput) (*registry.Image, error) {
	img, err := registry.Assemble(in)
	if err != nil {
		return nil, err
	}
	img.V1, err = registry.V1Records(in, e.Images.PutV1)
	return img, err
}

// ChangeConfig applies Dockerfile instructions to a configuration: they are planned as a
// Dockerfile on an image that has it. Others than those that only change a configuration
// are a *mistake.Error.
func ChangeConfig(ctx context.Context, config registry.ImageConfig, changes []string) (registry.ImageConfig, error) {
	if len(changes) == 0 {
		return config, nil
	}
	src := "FROM committed\n" + strings.Join(changes, "\n") + "\n"
	file, err := parser.Parse("--change", []byte(src))
	if err != nil {
		return config, err
	}
	for _, c := range file.Stages[0].Commands {
		if !changesConfig(c.Name()) {
			return config, mistake.New("--change %q is not possible", c.Name()).
				WithHint("use CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR")
		}
	}
	if len(file.Stages) > 1 {
		return config, mistake.New("--change FROM is not possible")
	}
	base := config
	base.Config.OnBuild = nil // triggers run in a FROM, and this is none
	plan, err := planner.Build(ctx, file, fixedImage{base}, planner.Options{BuildPlatform: config.Platform, Platforms: []ocispec.Platform{config.Platform}})
	if err != nil {
		return config, err
	}
	if len(plan.Targets) != 1 {
		return config, errors.New("--change: no result")
	}
	out := plan.Targets[0].Config
	out.Config.OnBuild = append(config.Config.OnBuild, out.Config.OnBuild...)
	return out, nil
}

// changesConfig reports whether an instruction only changes the configuration.
func changesConfig(instruction string) bool {
	switch strings.ToLower(instruction) {
	case "cmd", "entrypoint", "env", "expose", "healthcheck", "label", "onbuild", "shell",
		"stopsignal", "user", "volume", "workdir":
		return true
	}
	return false
}

// fixedImage is an image resolver that knows one image.
type fixedImage struct{ config registry.ImageConfig }

// ResolveImage implements planner.ImageResolver.
func (f fixedImage) ResolveImage(ctx context.Context, ref string, platform ocispec.Platform) (*planner.BaseImage, error) {
	return &planner.BaseImage{Ref: ref, Digest: "sha256:" + strings.Repeat("0", 64), Platform: f.config.Platform, Config: f.config}, nil
}
