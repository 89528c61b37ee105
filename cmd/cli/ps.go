package cli

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"layered.build/builder/parser/mistake"
)

func (a *app) psCommand() *cobra.Command {
	var all, quiet, noTrunc bool
	cmd := &cobra.Command{
		Use:   "ps [OPTIONS]",
		Short: "List processes that `builder run` started",
		Args:  exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(func(e *engine) error {
				runs, err := e.listRuns()
				if err != nil {
					return err
				}
				return a.printRuns(runs, all, quiet, noTrunc)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended and are kept")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "ids only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "whole ids and commands")
	return cmd
}

func (a *app) printRuns(runs []*run, all, quiet, noTrunc bool) error {
	tw := tabwriter.NewWriter(a.std.Out, 0, 8, 3, ' ', 0)
	if !quiet {
		fmt.Fprintln(tw, "RUN ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tNAME")
	}
	for _, r := range runs {
		status := r.status()
		if !all && status != "Running" {
			continue
		}
		id := shortID(r.record.ID, noTrunc)
		if quiet {
			fmt.Fprintln(tw, id)
			continue
		}
		command := strings.Join(r.record.Command, " ")
		if !noTrunc && len([]rune(command)) > 30 {
			command = string([]rune(command)[:29]) + "…"
		}
		fmt.Fprintf(tw, "%s\t%s\t%q\t%s\t%s\t%s\n", id, r.record.Image, command, ago(r.record.Created), status, r.record.Name)
	}
	return tw.Flush()
}

func (a *app) rmCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rm [-a] RUN...",
		Short: "Remove what kept runs left",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !all && len(args) == 0 {
				return mistake.New("rm needs at least one run").WithHint("`builder ps -a` lists them; `builder rm -a` removes all")
			}
			return a.withEngine(func(e *engine) error { return a.removeRuns(e, args, all) })
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all runs that have ended")
	return cmd
}

func (a *app) removeRuns(e *engine, refs []string, all bool) error {
	var runs []*run
	if all {
		list, err := e.listRuns()
		if err != nil {
			return err
		}
		for _, r := range list {
			if !r.running() {
				runs = append(runs, r)
			}
		}
	}
	for _, ref := range refs {
		r, err := e.findRun(ref)
		if err != nil {
			return err
		}
		if r.running() {
			return mistake.New("run %s is running", ref).WithHint("end it first")
		}
		runs = append(runs, r)
	}
	var errs []error
	for _, r := range runs {
		errs = append(errs, r.remove())
		fmt.Fprintln(a.std.Out, shortID(r.record.ID, false))
	}
	return errors.Join(errs...)
}
