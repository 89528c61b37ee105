package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"layered.build/builder/parser"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export"
)

// commitFlags are the flags of `builder commit`.
type commitFlags struct {
	author, message string
	changes         []string
}

func (a *app) commitCommand() *cobra.Command {
	f := &commitFlags{}
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] RUN [NAME]",
		Short: "Make an image of what a kept run left",
		Args:  rangeArgs(1, 2, "a run and perhaps a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(func(e *engine) error { return a.commit(cmd.Context(), e, f, args) })
		},
	}
	cmd.Flags().StringVarP(&f.author, "author", "a", "", "author")
	cmd.Flags().StringVarP(&f.message, "message", "m", "", "comment in the history")
	arrayVar(cmd.Flags(), &f.changes, "change", "c", "Dockerfile instruction that changes the configuration; may be repeated")
	return cmd
}

func (a *app) commit(ctx context.Context, e *engine, f *commitFlags, args []string) error {
	r, err := e.findRun(args[0])
	if err != nil {
		return err
	}
	rec := r.record
	if rec.Finished == nil {
		return mistake.New("run %s has not ended", args[0]).WithHint("only what an ended run left can become an image")
	}
	if err := export.CheckNames(args[1:]...); err != nil {
		return err
	}
	config, err := changeConfig(ctx, rec.Config, f.changes)
	if err != nil {
		return err
	}
	if f.author != "" {
		config.Author = f.author
	}
	in := registry.AssembleInput{
		Base: &rec.Config, BaseStack: rec.Base, BaseV1: rec.V1, Stack: rec.Stack, Config: config,
		Steps: []registry.AssembleStep{{
			CreatedBy: strings.Join(rec.Command, " "), Comment: f.message, Cmd: rec.Command,
			Stack: rec.Stack, Config: config,
		}},
	}
	img, err := registry.Assemble(in)
	if err != nil {
		return err
	}
	recs, err := registry.V1Records(in)
	if err != nil {
		return err
	}
	if n := len(recs); n > 0 {
		img.V1 = recs[n-1].ID
	}
	if err := e.images.PutV1(recs...); err != nil {
		return err
	}
	if err := e.images.Put(ctx, img, args[1:]...); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.std.Out, img.ID)
	return err
}

// changeConfig applies the instructions of --change to a configuration: they are
// planned as a Dockerfile on an image that has it.
func changeConfig(ctx context.Context, config registry.ImageConfig, changes []string) (registry.ImageConfig, error) {
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
