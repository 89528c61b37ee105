package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cmd/cli/flags"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/registry"
)

func (a *app) historyCommand() *cobra.Command {
	var noTrunc, quiet bool
	var format string
	platform := &flags.Platform{}
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE|STEP",
		Short: "Show what made an image, newest first",
		Args:  exactArgs(1, "an image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				img, err := find(e, platform, args[0])
				if err != nil {
					return err
				}
				entries, err := e.Images.History(img)
				if err != nil {
					return err
				}
				return printHistory(a.std.Out, entries, quiet, noTrunc, format == "json")
			})
		},
	}
	platform.Register(cmd.Flags(), flags.WhichPlatform)
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "whole lines")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "ids only")
	cmd.Flags().StringVar(&format, "format", "", "json: one object a line")
	return cmd
}

func printHistory(w io.Writer, entries []registry.HistoryEntry, quiet, noTrunc, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for _, e := range entries {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	if !quiet {
		fmt.Fprintln(tw, "IMAGE\tCREATED\tCREATED BY\tSIZE\tCOMMENT")
	}
	for _, e := range entries {
		if quiet {
			fmt.Fprintln(tw, shortID(e.ID, noTrunc))
			continue
		}
		by := strings.ReplaceAll(strings.ReplaceAll(e.CreatedBy, "\t", " "), "\n", " ")
		if !noTrunc && len([]rune(by)) > 45 {
			by = string([]rune(by)[:44]) + "…"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", shortID(e.ID, noTrunc), ago(e.Created), by, units.HumanSizeWithPrecision(float64(e.Size), 3), e.Comment)
	}
	return tw.Flush()
}
