package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// recordedVersion is the version that the Go tool recorded in the program.
func recordedVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Annotations: outside(),
		Use:         "version",
		Short:       "Print the version",
		Args:        exactArgs(0, "no arguments"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "builder %s\n%s %s/%s\n", a.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Annotations: outside(),
		Use:         "exit-codes",
		Short:       "What the exit codes mean",
		Long: `Exit codes

  0    success
  1    a build step failed, or --check, --cache-verify or store check found something
  2    a mistake in flags, Dockerfile or context, or in a file or store that was named
  3    infrastructure: registry, network, disk, permissions
  70   a bug in builder
  130  interrupted (SIGINT)
  143  ended by SIGTERM

builder run gives the exit code of its process, 128+n if signal n ended it, and
125 if the process could not be started because of an error of builder's own,
126 if the command cannot be executed and 127 if it is not found.`,
	}
}
