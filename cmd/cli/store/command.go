// Package store holds the commands `builder store …`.
package store

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

// Program is what the commands need of the program that they are part of.
type Program struct {
	In  io.Reader
	Out io.Writer
	// Root is the folder of the store.
	Root func() (string, error)
	// WithEngine runs fn on the store, which it opens, or makes, and closes; WithStore refuses
	// a folder that has none, and makes nothing there.
	WithEngine, WithStore func(ctx context.Context, access engine.Access, fn func(*engine.Engine) error) error
	// Write writes a file, or stdout for "-"; IsTerminal tells whether somebody looks at what
	// is written there or read.
	Write      func(ctx context.Context, dest string, write func(io.Writer) error) error
	IsTerminal func(stream any) bool
	// Confirm asks the user.
	Confirm func(question string) (bool, error)
	// Wrong is the error of a command that has found something wrong, and said what.
	Wrong error
}

// Command is `builder store`.
func Command(p Program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Verify, archive, restore or remove the store",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return mistake.New("unknown command %q of %s", args[0], cmd.CommandPath()).WithHint("`%s --help` lists them", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.check(), p.export(), p.restore(), p.reset())
	return cmd
}

// none wants no arguments.
func none(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return mistake.New("%s needs no arguments, got %d arguments", cmd.CommandPath(), len(args)).WithHint("usage: %s", cmd.UseLine())
	}
	return nil
}
