// Package caches holds the commands `builder cache …`.
package caches

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

// Program is what the commands need of the program that they are part of.
type Program struct {
	In       io.Reader
	Out, Err io.Writer
	// Failed is the error that ends the program with the code of what was found to be wrong,
	// after it was told.
	Failed error
	// Getenv reads the environment.
	Getenv func(string) string
	// WithEngine runs fn on the store, which it opens and closes.
	WithEngine func(ctx context.Context, access engine.Access, fn func(*engine.Engine) error) error
	// Outside are the annotations of commands that do not open the store.
	Outside map[string]string
}

// Command is `builder cache`.
func Command(p Program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look after the build cache and shared caches",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return mistake.New("unknown command %q of %s", args[0], cmd.CommandPath()).WithHint("`%s --help` lists them", cmd.CommandPath())
			}
			return nil
		},
		RunE:        func(cmd *cobra.Command, args []string) error { return cmd.Help() },
		Annotations: p.Outside,
	}
	cmd.AddCommand(p.list(), p.show(), p.remove(), p.verify(), p.export(), p.importing(), p.mounts(), p.keygen())
	return cmd
}

// exactly wants n arguments, which what describes.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return mistake.New("%s needs %s, got %d arguments", cmd.CommandPath(), what, len(args)).WithHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}
