package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/cli/format"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
)

func (a *app) inspectCommand() *cobra.Command {
	var v1 bool
	var how string
	platform := &flags.Platform{}
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] IMAGE|STEP|RUN...",
		Short: "Show all that is known of images, steps or kept runs, as JSON or by a template",
		Args:  minArgs(1, "at least one image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				var out []any
				for _, ref := range args {
					v, err := inspect(e, ref, platform, v1)
					if err != nil {
						return err
					}
					out = append(out, v)
				}
				if how != "" {
					return format.Print(a.std.Out, how, out)
				}
				return format.JSON(a.std.Out, out, "    ")
			})
		},
	}
	platform.Register(cmd.Flags(), flags.WhichPlatform)
	cmd.Flags().StringVarP(&how, "format", "f", "", "a Go template for each, with docker's functions, or json")
	cmd.Flags().BoolVar(&v1, "v1", false, "show the V1 record of the last instruction")
	return cmd
}

func inspect(e *engine.Engine, ref string, platform *flags.Platform, v1 bool) (any, error) {
	img, err := find(e, platform, ref)
	if errors.Is(err, registry.ErrNotFound) && !v1 {
		if run, runErr := e.Runs().Find(ref); runErr == nil {
			return run.View(), nil
		}
	}
	if err != nil {
		return nil, err
	}
	if !v1 {
		return e.Images.Inspect(img)
	}
	if img.V1 == "" {
		return nil, mistake.New("image %s has no V1 record: it was not built here", ref).WithHint("leave --v1 out")
	}
	rec, err := e.Images.V1(img.V1)
	if err != nil {
		return nil, err
	}
	return rec.V1Image, nil
}
