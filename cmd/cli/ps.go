package cli

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/containers/runs"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

func (a *app) psCommand() *cobra.Command {
	var all, quiet, noTrunc bool
	cmd := &cobra.Command{
		Use:   "ps [OPTIONS]",
		Short: "List processes that `builder run` started",
		Args:  exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				list, err := e.Runs().List()
				if err != nil {
					return err
				}
				return a.printRuns(list, all, quiet, noTrunc)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended and are kept")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "ids only")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "whole ids and commands")
	return cmd
}

func (a *app) printRuns(list []*runs.Run, all, quiet, noTrunc bool) error {
	tw := tabwriter.NewWriter(a.std.Out, 0, 8, 3, ' ', 0)
	if !quiet {
		fmt.Fprintln(tw, "RUN ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tNAME")
	}
	for _, r := range list {
		state := status(r)
		if !all && state != "Running" {
			continue
		}
		id := shortID(r.Record.ID, noTrunc)
		if quiet {
			fmt.Fprintln(tw, id)
			continue
		}
		command := strings.Join(r.Record.Command, " ")
		if !noTrunc && len([]rune(command)) > 30 {
			command = string([]rune(command)[:29]) + "…"
		}
		fmt.Fprintf(tw, "%s\t%s\t%q\t%s\t%s\t%s\n", id, r.Record.Image, command, ago(r.Record.Created), state, r.Record.Name)
	}
	return tw.Flush()
}

// status is what ps shows.
func status(r *runs.Run) string {
	switch {
	case r.Record.Finished != nil:
		return fmt.Sprintf("Exited (%d) %s", r.Record.ExitCode, ago(*r.Record.Finished))
	case r.Running():
		return "Running"
	}
	return "Dead" // its builder was killed; nothing of it was kept
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
			return a.withEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error { return a.removeRuns(e, args, all) })
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all runs that have ended")
	return cmd
}

func (a *app) removeRuns(e *engine.Engine, refs []string, all bool) error {
	var chosen []*runs.Run
	if all {
		list, err := e.Runs().List()
		if err != nil {
			return err
		}
		for _, r := range list {
			if !r.Running() {
				chosen = append(chosen, r)
			}
		}
	}
	for _, ref := range refs {
		r, err := e.Runs().Find(ref)
		if err != nil {
			return err
		}
		if r.Running() {
			return mistake.New("run %s is running", ref).WithHint("end it first")
		}
		chosen = append(chosen, r)
	}
	var errs []error
	for _, r := range chosen {
		errs = append(errs, r.Remove())
		fmt.Fprintln(a.std.Out, shortID(r.Record.ID, false))
	}
	return errors.Join(errs...)
}
