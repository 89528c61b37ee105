package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"layered.build/builder/executor/doctor"
	"layered.build/builder/executor/runc"
	"layered.build/builder/parser/mistake"
)

func (a *app) doctorCommand() *cobra.Command {
	format := "text"
	cmd := &cobra.Command{
		Annotations: outside(),
		Use:         "doctor [OPTIONS]",
		Short:       "Tell what this machine offers to builds, and what would lift what is missing",
		Long: `Tell which rungs of isolation work on this machine for this user, which one builds
use, and for each that does not work the one command or setting that would lift it.
It changes nothing. The exit code is 0 if builds work.`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return mistake.New("--format %q: want text or json", format)
			}
			root, err := a.storeRoot()
			if err == nil {
				err = runc.OwnFile() // what is tried is what a build does
			}
			if err != nil {
				return err
			}
			r := doctor.Examine(cmd.Context(), root)
			if err := printDoctor(a.std.Out, r, format); err != nil {
				return err
			}
			if !r.Works {
				return &exitError{code: ExitInfra}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

func printDoctor(out io.Writer, r doctor.Report, format string) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(r)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ISOLATION\tWORKS\tROOT FILE SYSTEM\tREMARK")
	for _, rung := range r.Rungs {
		works := "no"
		if rung.Works {
			works = "yes"
		}
		if rung.Used {
			works = "yes, used"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", rung.Isolation, works, rung.Driver, rung.Reason)
		if rung.Remedy != "" {
			fmt.Fprintf(w, "\t\t\t-> %s\n", rung.Remedy)
		}
	}
	fmt.Fprintln(w, "\nMACHINE\tSTATE\tVALUE")
	for _, f := range r.Facts {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, f.State, f.Value)
		if f.Remedy != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", f.Remedy)
		}
	}
	return w.Flush()
}
